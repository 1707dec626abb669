// SPDX-License-Identifier: GPL-2.0-or-later
// Everything that changes ranges of a file, at any byte, beside pages that are dirty or in flight,
// against an array of bytes. One seed is a run of kOperations on one file, on virtual time.
//
//   STABLEFS_SEED=N              moves the seeds
//   STABLEFS_RANGE_OPERATIONS=N  about how many operations
#include <algorithm>
#include <cstdlib>

#include "base/scheduler.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{3000, 9};
constexpr uint64_t kOperations = 500;
constexpr uint64_t kOperationsDefault = 20'000;
constexpr uint64_t kSeedStride = 1'000'000;
constexpr uint64_t kFileBytesMax = 60 * kBlockSize;

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

DataSetup setup_of(uint64_t seed) {
  DataSetup setup;
  setup.seed = seed;
  setup.device_blocks = 4096;
  setup.asynchronous = true;
  constexpr uint64_t kDelays[] = {0, 2 * kNsPerMs, 500 * kNsPerMs};
  setup.writeback_delay_ns = kDelays[seed % 3];
  setup.keep_clean = seed % 2 == 0;
  setup.clean_limit_bytes = 8 * kBlockSize;
  constexpr StablePolicy kPolicies[] = {StablePolicy::automatic, StablePolicy::wait,
                                        StablePolicy::copy};
  setup.stable = kPolicies[seed / 6 % 3];
  setup.interval = seed % 5 == 0 ? Interval::sector_512 : Interval::block_4096;
  setup.before_dma = [](const DeviceRequest&) { Scheduler::yield(); };
  return setup;
}

class RangeModel {
 public:
  RangeModel(FileData& file, uint64_t seed) : file_(file), prng_(seed) {}

  void step() {
    const uint64_t kind = prng_.below(16);
    uint64_t offset = prng_.below(kFileBytesMax);
    uint64_t length = 1 + prng_.below(prng_.chance(3) ? 12 * kBlockSize : 3000);
    if (prng_.chance(3)) offset = offset / kBlockSize * kBlockSize;
    if (prng_.chance(3)) length = blocks_for_bytes(length) * kBlockSize;
    if (prng_.chance(4)) offset = std::min<uint64_t>(bytes_.size(), kFileBytesMax - 1);
    length = std::min(length, kFileBytesMax - offset);
    last_ = "operation " + std::to_string(kind) + " offset " + std::to_string(offset) + " length " +
            std::to_string(length) + " size " + std::to_string(bytes_.size());
    const bool flag = prng_.chance(2);
    if (kind < 5) return write(offset, length);
    if (kind < 7) return read(offset, length);
    if (kind < 8) return truncate(flag ? offset : offset + length);
    if (kind < 10) return check(file_.punch(offset, length, kNow)), zero(offset, length, true);
    if (kind < 12) {
      return check(file_.zero(offset, length, flag, kNow)), zero(offset, length, flag);
    }
    if (kind < 14) return allocate(offset, length, flag);
    if (kind < 15) return seek(offset, flag);
    if (flag) return check(file_.write_back());
    for (uint64_t left = prng_.below(100); left > 0; --left) Scheduler::yield();
  }
  void move_to(FileData& file) {
    RangeModel copy(file, 1);
    copy.bytes_ = bytes_;
    copy.read(0, kFileBytesMax + 100);
    if (wrong_.empty()) wrong_ = copy.wrong_;
  }
  uint64_t size() const { return bytes_.size(); }
  const std::string& wrong() const { return wrong_; }

 private:
  void complain(const std::string& text) {
    if (wrong_.empty()) wrong_ = last_ + ": " + text;
  }
  void check(const Status& status) {
    if (!status.ok()) complain(status.error().message());
  }
  void write(uint64_t offset, uint64_t length) {
    const auto bytes = random_bytes(prng_, length);
    const auto written = file_.write(offset, payload_of(bytes), kNow);
    if (!written.ok() || *written != length) return complain("write: " + what(written));
    if (bytes_.size() < offset + length) bytes_.resize(offset + length);
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<ptrdiff_t>(offset));
  }
  void read(uint64_t offset, uint64_t length) {
    std::vector<std::byte> out(length);
    const auto read = file_.read(offset, out);
    const uint64_t known = offset < bytes_.size() ? bytes_.size() - offset : 0;
    if (!read.ok() || *read != std::min(known, length)) return complain("read: " + what(read));
    if (*read == 0) return;
    const auto expected = bytes_.begin() + static_cast<ptrdiff_t>(offset);
    const auto end = out.begin() + static_cast<ptrdiff_t>(*read);
    const auto differs = std::mismatch(out.begin(), end, expected).first;
    if (differs == end) return;
    complain("byte " + std::to_string(offset + static_cast<uint64_t>(differs - out.begin())));
  }
  void truncate(uint64_t size) {
    check(file_.truncate(size, kNow));
    bytes_.resize(size);
  }
  void zero(uint64_t offset, uint64_t length, bool keep_size) {
    const uint64_t end = offset + length;
    if (!keep_size && bytes_.size() < end) bytes_.resize(end);
    const uint64_t last = std::min<uint64_t>(end, bytes_.size());
    if (offset >= last) return;
    std::fill(bytes_.begin() + static_cast<ptrdiff_t>(offset),
              bytes_.begin() + static_cast<ptrdiff_t>(last), std::byte{0});
  }
  void allocate(uint64_t offset, uint64_t length, bool keep_size) {
    check(file_.allocate(offset, length, keep_size, kNow));
    if (!keep_size && bytes_.size() < offset + length) bytes_.resize(offset + length);
  }
  // Data may be zeros; a hole must be.
  void seek(uint64_t offset, bool hole) {
    const auto found = file_.seek(offset, hole);
    const bool beyond = !found.ok() && found.error().code() == ErrorCode::seek_beyond_end;
    if (!found.ok() && !beyond) return complain("seek: " + what(found));
    if (beyond && hole && offset < bytes_.size()) return complain("no hole at the end");
    if (hole) return;
    const uint64_t end = beyond ? bytes_.size() : *found;
    for (uint64_t at = offset; at < end; ++at) {
      if (bytes_[at] != std::byte{0}) return complain("data in what is a hole");
    }
  }

  FileData& file_;
  Prng prng_;
  std::vector<std::byte> bytes_;
  std::string last_, wrong_;
};

std::string run(uint64_t seed) {
  Scheduler scheduler(seed);
  std::string wrong;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataFixture f(setup_of(seed), &clock);
    RangeModel model(f.make_file(), seed);
    for (uint64_t i = 0; i < kOperations && model.wrong().empty(); ++i) model.step();
    if (model.wrong().empty() && !f.files[0]->write_back().ok()) wrong = "last write_back";
    if (f.attributes().disk_size_bytes != model.size()) wrong = "size on disk";
    f.reopen();
    if (wrong.empty()) wrong = f.check_items();
    model.move_to(*f.files[0]);
    if (!model.wrong().empty()) wrong = model.wrong();
    if (wrong.empty() && f.verifying.verifying_counters().mismatches != 0) wrong = "buffer moved";
  });
  return wrong;
}

}  // namespace

TEST_CASE("a file is what an array of bytes would be, whatever is done to its ranges",
          "[data][sim]") {
  const uint64_t first = number_from("STABLEFS_SEED", 0) * kSeedStride + 1;
  const uint64_t runs = number_from("STABLEFS_RANGE_OPERATIONS", kOperationsDefault) / kOperations;
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    const std::string wrong = run(seed);
    INFO("seed " << seed);
    REQUIRE(wrong == "");
  }
}
