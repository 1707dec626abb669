// SPDX-License-Identifier: GPL-2.0-or-later
// The real device on image files, and on a loop device where the host allows it.
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/prng.h"
#include "base/sync.h"
#include "device/open.h"
#include "device/uring_device.h"

using namespace stablefs;

namespace {

class ImageFile {
 public:
  explicit ImageFile(uint64_t size_bytes) {
    std::string name = (std::filesystem::temp_directory_path() / "stablefs-test-XXXXXX").string();
    const int fd = mkstemp(name.data());
    REQUIRE(fd >= 0);
    REQUIRE(ftruncate(fd, static_cast<off_t>(size_bytes)) == 0);
    close(fd);
    path_ = name;
  }
  ~ImageFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<SourceDevice> open_ok(const std::string& path, OpenDeviceOptions options = {}) {
  NullLogger logger;
  auto device = open_source(path, options, logger);
  if (!device.ok()) FAIL(device.error().message());
  return std::move(device).value();
}

ErrorCode open_error(const std::string& path, OpenDeviceOptions options = {}) {
  NullLogger logger;
  const auto device = open_source(path, options, logger);
  REQUIRE_FALSE(device.ok());
  return device.error().code();
}

AlignedBuffer filled(unsigned char value, size_t blocks = 1) {
  AlignedBuffer buffer(blocks * kBlockSize);
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{value});
  return buffer;
}

bool holds(BlockDevice& device, uint64_t lba, unsigned char value) {
  AlignedBuffer block(kBlockSize);
  REQUIRE(device.read(Lba(lba), block.span()).ok());
  return std::all_of(block.span().begin(), block.span().end(),
                     [value](std::byte b) { return b == std::byte{value}; });
}

struct Outcome {
  Mutex mutex{LockRank::leaf, "test outcome"};
  CondVar changed;
  int completed FS_GUARDED_BY(mutex) = 0;
  int failed FS_GUARDED_BY(mutex) = 0;

  void wait_for(int count) FS_EXCLUDES(mutex) {
    MutexLock lock(mutex);
    while (completed < count) changed.wait(mutex);
  }
  int failures() FS_EXCLUDES(mutex) {
    MutexLock lock(mutex);
    return failed;
  }
};

// A request with its own memory.
struct OwnRequest {
  AlignedBuffer buffer;
  std::vector<iovec> parts;
  DeviceRequest request;

  OwnRequest(DeviceOp op, uint64_t lba, AlignedBuffer memory, Outcome& outcome,
             size_t part_bytes = ~size_t{0})
      : buffer(std::move(memory)) {
    for (size_t offset = 0; offset < buffer.size();) {
      const size_t length = std::min(part_bytes, buffer.size() - offset);
      parts.push_back({buffer.data() + offset, length});
      offset += length;
    }
    request.op = op;
    request.lba = Lba(lba);
    request.length_blocks = buffer.size() / kBlockSize;
    request.memory = parts;
    request.complete = [this, &outcome](Status status, uint64_t blocks_done) {
      const bool whole = status.ok() && blocks_done == request.length_blocks;
      MutexLock lock(outcome.mutex);
      ++outcome.completed;
      if (!whole) ++outcome.failed;
      outcome.changed.notify_all();
    };
  }
};

void write_and_read_back(BlockDevice& device) {
  REQUIRE(device.write(Lba(0), filled(1, 4).span()).ok());
  REQUIRE(device.write(Lba(2), filled(2).span(), true).ok());
  REQUIRE(device.flush().ok());
  CHECK(holds(device, 1, 1));
  CHECK(holds(device, 2, 2));
  CHECK(holds(device, 3, 1));
  CHECK(device.counters().fua_writes == 1);
  CHECK(device.counters().flushes == 1);
}

void write_and_read_back_asynchronously(BlockDevice& device) {
  constexpr int kCount = 600;  // more than the ring takes at once
  Outcome written, flushed, read;
  std::vector<std::unique_ptr<OwnRequest>> requests;
  std::vector<DeviceRequest*> all;
  for (int i = 0; i < kCount; ++i) {
    requests.push_back(std::make_unique<OwnRequest>(
        DeviceOp::write, i, filled(static_cast<unsigned char>(i % 251)), written));
    requests.back()->request.fua = i % 50 == 0;
    all.push_back(&requests.back()->request);
  }
  device.submit_all(all);
  written.wait_for(kCount);
  CHECK(written.failures() == 0);

  OwnRequest flush(DeviceOp::flush, 0, AlignedBuffer(), flushed);
  device.submit(flush.request);
  flushed.wait_for(1);
  CHECK(flushed.failures() == 0);

  requests.clear();
  for (int i = 0; i < kCount; ++i) {
    requests.push_back(
        std::make_unique<OwnRequest>(DeviceOp::read, i, AlignedBuffer(kBlockSize), read));
    device.submit(requests.back()->request);
  }
  read.wait_for(kCount);
  CHECK(read.failures() == 0);
  for (int i = 0; i < kCount; ++i) {
    CHECK(requests[i]->buffer.data()[17] == static_cast<std::byte>(i % 251));
  }
}

}  // namespace

TEST_CASE("an image file reads back what was written") {
  ImageFile image(64 * kBlockSize);
  const auto device = open_ok(image.path());
  CHECK(device->block_count() == 64);
  CHECK_FALSE(device->is_block_device());
  CHECK(device->path() == std::filesystem::canonical(image.path()).string());
  write_and_read_back(*device);
}

TEST_CASE("asynchronous requests complete, more of them than the ring holds") {
  ImageFile image(1000 * kBlockSize);
  const auto device = open_ok(image.path());
  write_and_read_back_asynchronously(*device);
}

TEST_CASE("where io_uring is not allowed threads take its place") {
  ImageFile image(1000 * kBlockSize);
  SourceFile source;
  source.io = Descriptor(open(image.path().c_str(), O_RDWR | O_CLOEXEC));
  source.path = image.path();
  source.block_count = 1000;
  NullLogger logger;
  UringDevice device(std::move(source), false, logger);
  write_and_read_back(device);
  write_and_read_back_asynchronously(device);
}

TEST_CASE("a request of more parts than one system call takes is carried out whole") {
  constexpr size_t kBlocks = 2500;  // IOV_MAX is 1024
  ImageFile image(kBlocks * kBlockSize);
  const auto device = open_ok(image.path());
  AlignedBuffer data(kBlocks * kBlockSize);
  Prng prng(4);
  for (size_t i = 0; i < data.size(); i += 64) data.data()[i] = static_cast<std::byte>(prng.next());
  AlignedBuffer copy(data.size());
  std::copy(data.span().begin(), data.span().end(), copy.span().begin());

  Outcome outcome;
  OwnRequest write(DeviceOp::write, 0, std::move(copy), outcome, kBlockSize);
  device->submit(write.request);
  outcome.wait_for(1);
  OwnRequest read(DeviceOp::read, 0, AlignedBuffer(data.size()), outcome, kBlockSize);
  device->submit(read.request);
  outcome.wait_for(2);
  CHECK(outcome.failures() == 0);
  CHECK(std::equal(data.span().begin(), data.span().end(), read.buffer.span().begin()));
}

TEST_CASE("an image that was cut short completes short instead of hanging") {
  ImageFile image(8 * kBlockSize);
  const auto device = open_ok(image.path());
  REQUIRE(truncate(image.path().c_str(), 2 * kBlockSize) == 0);
  AlignedBuffer out(4 * kBlockSize);
  const Status status = device->read(Lba(0), out.span());
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::device_short);
  uint64_t done = ~0ull;
  Outcome outcome;
  OwnRequest read(DeviceOp::read, 1, AlignedBuffer(4 * kBlockSize), outcome);
  auto count = std::move(read.request.complete);
  read.request.complete = [&](Status s, uint64_t blocks_done) {
    done = s.ok() ? blocks_done : ~0ull;
    count(std::move(s), blocks_done);
  };
  device->submit(read.request);
  outcome.wait_for(1);
  CHECK(done == 1);
}

TEST_CASE("requests the device cannot serve are refused before they reach it") {
  ImageFile image(8 * kBlockSize);
  const auto device = open_ok(image.path());
  AlignedBuffer two(2 * kBlockSize);
  CHECK(device->read(Lba(7), two.span()).error().code() == ErrorCode::device_range);
  CHECK(device->write(Lba(0), two.span().subspan(512, kBlockSize)).error().code() ==
        ErrorCode::invalid_argument);
  CHECK(device->discard({Lba(8), 1}).error().code() == ErrorCode::device_range);
  CHECK(device->read(Lba(8), {}).ok());
  CHECK(device->discard({Lba(8), 0}).ok());
}

TEST_CASE("a discarded range of an image gives its space back and reads as zeros") {
  ImageFile image(64 * kBlockSize);
  const auto device = open_ok(image.path());
  CHECK(device->supports_discard());
  REQUIRE(device->write(Lba(0), filled(7, 64).span()).ok());
  REQUIRE(device->flush().ok());
  REQUIRE(device->discard({Lba(8), 48}).ok());
  CHECK(holds(*device, 7, 7));
  CHECK(holds(*device, 8, 0));
  CHECK(holds(*device, 55, 0));
  CHECK(holds(*device, 56, 7));
  REQUIRE(device->write_zeroes({Lba(0), 2}).ok());
  CHECK(holds(*device, 1, 0));
  CHECK(holds(*device, 2, 7));
  CHECK(std::filesystem::file_size(image.path()) == 64 * kBlockSize);
}

TEST_CASE("an image in use is refused, at once or after the wait") {
  ImageFile image(8 * kBlockSize);
  auto first = open_ok(image.path());
  CHECK(open_error(image.path()) == ErrorCode::device_busy);
  CHECK(open_error(image.path(), {.read_only = true}) == ErrorCode::device_busy);
  SystemClock clock;
  const uint64_t start_ns = clock.monotonic_ns();
  CHECK(open_error(image.path(), {.exclusive_wait_ms = 100}) == ErrorCode::device_busy);
  CHECK(clock.monotonic_ns() - start_ns >= 100 * kNsPerMs);
  open_ok(image.path(), {.exclusive = false});
  first.reset();
  open_ok(image.path());
}

TEST_CASE("a predecessor that lets go within the wait is succeeded") {
  ImageFile image(8 * kBlockSize);
  auto first = open_ok(image.path());
  Thread closer("closer", [&first] {
    usleep(50'000);
    first.reset();
  });
  open_ok(image.path(), {.exclusive_wait_ms = 10'000});
}

TEST_CASE("readers of an image share it") {
  ImageFile image(8 * kBlockSize);
  const auto first = open_ok(image.path(), {.read_only = true});
  const auto second = open_ok(image.path(), {.read_only = true});
  CHECK(open_error(image.path()) == ErrorCode::device_busy);
  CHECK(first->write(Lba(0), filled(1).span()).error().code() == ErrorCode::device_write);
  CHECK_FALSE(first->supports_discard());
  CHECK(holds(*second, 0, 0));
}

TEST_CASE("only block devices and regular files are accepted") {
  CHECK(open_error("/dev/null") == ErrorCode::device_open);
  CHECK(open_error(std::filesystem::temp_directory_path()) == ErrorCode::device_open);
  CHECK(open_error("/nonexistent/image") == ErrorCode::device_open);
  CHECK(open_error("") == ErrorCode::device_open);
  ImageFile fifo(0);
  unlink(fifo.path().c_str());
  REQUIRE(mkfifo(fifo.path().c_str(), 0600) == 0);
  CHECK(open_error(fifo.path()) == ErrorCode::device_open);
}

TEST_CASE("an image without room for one block is refused, a ragged end is ignored") {
  ImageFile empty(0), small(kBlockSize - 1), ragged(3 * kBlockSize + 512);
  CHECK(open_error(empty.path()) == ErrorCode::device_too_small);
  CHECK(open_error(small.path()) == ErrorCode::device_too_small);
  CHECK(open_ok(ragged.path())->block_count() == 3);
}

TEST_CASE("after an abort every request fails and the device still closes") {
  ImageFile image(64 * kBlockSize);
  const auto device = open_ok(image.path());
  Outcome outcome;
  std::vector<std::unique_ptr<OwnRequest>> requests;
  for (int i = 0; i < 64; ++i) {
    requests.push_back(
        std::make_unique<OwnRequest>(DeviceOp::read, i, AlignedBuffer(kBlockSize), outcome));
    device->submit(requests.back()->request);
    if (i == 32) device->abort();
  }
  outcome.wait_for(64);
  CHECK(outcome.failures() >= 31);
  CHECK(device->flush().error().code() == ErrorCode::device_aborted);
  CHECK(device->write(Lba(0), filled(1).span()).error().code() == ErrorCode::device_aborted);
  CHECK(device->discard({Lba(0), 1}).error().code() == ErrorCode::device_aborted);
}

namespace {

// Each completion submits the next write from within the callback.
struct Chain {
  BlockDevice& device;
  Outcome& outcome;
  int left;
  AlignedBuffer buffer = filled(3);
  iovec part{buffer.data(), buffer.size()};
  DeviceRequest request{};

  void step() {
    request.op = DeviceOp::write;
    request.length_blocks = 1;
    request.memory = {&part, 1};
    request.complete = [this](Status status, uint64_t) {
      if (status.ok() && --left > 0) {
        request.lba = request.lba + 8;
        step();
        return;
      }
      MutexLock lock(outcome.mutex);
      ++outcome.completed;
      if (left > 0) ++outcome.failed;
      outcome.changed.notify_all();
    };
    device.submit(request);
  }
};

}  // namespace

TEST_CASE("a completion may submit the next request, and threads may submit at once") {
  ImageFile image(1000 * kBlockSize);
  const auto device = open_ok(image.path());
  Outcome outcome;
  std::vector<std::unique_ptr<Chain>> chains;
  std::vector<Thread> starters;
  for (uint64_t i = 0; i < 8; ++i) {
    chains.push_back(std::unique_ptr<Chain>(new Chain{*device, outcome, 50}));
    chains.back()->request.lba = Lba(i);
    starters.emplace_back("starter", [chain = chains.back().get()] { chain->step(); });
  }
  starters.clear();
  outcome.wait_for(8);
  CHECK(outcome.failures() == 0);
  for (uint64_t lba = 0; lba < 400; ++lba) CHECK(holds(*device, lba, 3));
}

namespace {

// Needs root and a free loop device; without them there is nothing to test on.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& image) {
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return;
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    close(control);
    if (number < 0) return;
    path_ = "/dev/loop" + std::to_string(number);
    const int backing = open(image.c_str(), O_RDWR | O_CLOEXEC);
    const int loop = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    attached_ = loop >= 0 && ioctl(loop, LOOP_SET_FD, backing) == 0;
    if (loop >= 0) close(loop);
    close(backing);
  }
  ~LoopDevice() {
    if (!attached_) return;
    const int loop = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    ioctl(loop, LOOP_CLR_FD, 0);
    close(loop);
  }
  bool attached() const { return attached_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool attached_ = false;
};

}  // namespace

TEST_CASE("a block device works like an image and is claimed until released") {
  ImageFile image(1000 * kBlockSize);
  LoopDevice loop(image.path());
  if (!loop.attached()) {
    WARN("no loop device here: block devices are not tested");
    return;
  }
  auto device = open_ok(loop.path());
  CHECK(device->is_block_device());
  CHECK(device->block_count() == 1000);
  write_and_read_back(*device);
  write_and_read_back_asynchronously(*device);
  if (device->supports_discard()) {
    REQUIRE(device->discard({Lba(0), 4}).ok());
    CHECK(holds(*device, 1, 0));
  }
  REQUIRE(device->write_zeroes({Lba(4), 4}).ok());
  CHECK(holds(*device, 5, 0));
  CHECK(open_error(loop.path()) == ErrorCode::device_busy);
  // The kernel may claim the device for the mount now; the image still has one user only.
  device->release_exclusive();
  const int claim = ::open(loop.path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC);
  CHECK(claim >= 0);
  ::close(claim);
  CHECK(open_error(loop.path()) == ErrorCode::device_busy);
  CHECK(open_error(image.path()) == ErrorCode::device_busy);
  CHECK(holds(*device, 8, 8));  // the first descriptor still works
  device.reset();
  const auto second = open_ok(loop.path());
}
