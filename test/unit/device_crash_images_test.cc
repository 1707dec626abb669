// SPDX-License-Identifier: GPL-2.0-or-later
// Crash images from a log. What is possible is told by an oracle of its own, block by block: the
// newest durable write of the block, or any that is newer and was submitted.
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "device/crash_images.h"
#include "device/overlay_device.h"

using namespace stablefs;

namespace {

constexpr uint64_t kBlocks = 16;

// Builds a log by hand. Every write has its own number, which fills its blocks.
class LogBuilder {
 public:
  uint64_t submit(DeviceOp op, uint64_t lba = 0, uint64_t blocks = 1, bool fua = false) {
    IoEvent event;
    event.op = op;
    event.fua = fua;
    event.request = ++last_;
    event.lba = Lba(lba);
    event.length_blocks = op == DeviceOp::flush ? 0 : blocks;
    if (op == DeviceOp::write) {
      event.payload.assign(blocks * kBlockSize, static_cast<std::byte>(last_));
    }
    log_.events.push_back(event);
    return last_;
  }
  void complete(uint64_t request, bool failed = false) {
    IoEvent event = submit_of(request);
    event.kind = IoEventKind::complete;
    event.payload.clear();
    event.failed = failed;
    log_.events.push_back(event);
  }
  uint64_t write(uint64_t lba, uint64_t blocks = 1, bool fua = false) {
    const uint64_t request = submit(DeviceOp::write, lba, blocks, fua);
    complete(request);
    return request;
  }
  void flush() { complete(submit(DeviceOp::flush)); }
  void mark(std::string_view text) {
    IoEvent event;
    event.kind = IoEventKind::mark;
    const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
    event.payload.assign(bytes.begin(), bytes.end());
    log_.events.push_back(event);
  }
  const IoLog& log() const { return log_; }
  const IoEvent& submit_of(uint64_t request) const {
    return *std::ranges::find_if(log_.events,
                                 [&](const IoEvent& event) { return event.request == request; });
  }

 private:
  IoLog log_{kBlocks, {}};
  uint64_t last_ = 0;
};

// The numbers the blocks begin with: the state in short.
using Contents = std::vector<int>;

Contents contents_of(const CrashState& state) {
  Contents contents;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    const auto page = state.image.page(Lba(i));
    contents.push_back(page ? static_cast<int>((*page)[0]) : 0);
  }
  return contents;
}

Contents contents(std::map<uint64_t, int> blocks) {
  Contents all(kBlocks, 0);
  for (const auto& [lba, value] : blocks) all[lba] = value;
  return all;
}

struct Found {
  std::vector<std::string> ids;
  std::set<Contents> whole;  // of states without torn writes
};

Found enumerate(const IoLog& log, const CrashImageOptions& options = {}) {
  Found found;
  CrashImages images(log, base_of(log), options);
  while (const auto state = images.next()) {
    found.ids.push_back(state->id.text());
    if (std::ranges::count(state->fates, WriteFate::torn) == 0) {
      found.whole.insert(contents_of(*state));
    }
  }
  return found;
}

struct Possible {
  std::set<int> values;
  int durable = 0;  // one of them: when nothing else arrived
};

// What block `lba` may begin with when the crash comes after `events` events.
Possible possible(const IoLog& log, uint64_t events, uint64_t lba) {
  struct Write {
    bool fua;
    std::optional<size_t> completed;
    bool durable;
  };
  std::map<uint64_t, Write> writes;      // to this block, by request
  std::map<uint64_t, size_t> flushes;    // when submitted
  std::optional<size_t> newest_durable;  // when it completed
  int durable_value = 0;
  for (size_t i = 0; i < events; ++i) {
    const IoEvent& event = log.events[i];
    const bool here = event.op == DeviceOp::write && event.lba.value <= lba &&
                      lba < event.lba.value + event.length_blocks;
    if (event.kind == IoEventKind::submit && here) writes[event.request] = {event.fua, {}, false};
    if (event.kind == IoEventKind::submit && event.op == DeviceOp::flush)
      flushes[event.request] = i;
    if (event.kind != IoEventKind::complete) continue;
    if (here) writes[event.request].completed = i;
    if (here && event.fua) writes[event.request].durable = true;
    for (auto& [request, write] : writes) {
      const bool flushed = event.op == DeviceOp::flush && !event.failed && write.completed &&
                           *write.completed < flushes[event.request];
      write.durable |= flushed;
      if (!write.durable || (newest_durable && *newest_durable >= *write.completed)) continue;
      newest_durable = write.completed;
      durable_value = static_cast<int>(request);
    }
  }
  Possible all{{durable_value}, durable_value};
  for (const auto& [request, write] : writes) {
    const bool older = newest_durable && write.completed && *write.completed < *newest_durable;
    if (!older) all.values.insert(static_cast<int>(request));
  }
  return all;
}

// Requests in flight side by side, completing in any order, on few blocks.
IoLog random_log(uint64_t seed) {
  Prng prng(seed);
  LogBuilder builder;
  std::vector<uint64_t> in_flight;
  for (int i = 0; i < 40; ++i) {
    if (in_flight.size() < 4 && prng.chance(2)) {
      const bool flush = prng.chance(4);
      in_flight.push_back(flush ? builder.submit(DeviceOp::flush)
                                : builder.submit(DeviceOp::write, prng.below(5), 1 + prng.below(2),
                                                 prng.chance(5)));
    } else if (!in_flight.empty()) {
      const size_t index = prng.below(in_flight.size());
      builder.complete(
          in_flight[index],
          prng.chance(10) && builder.submit_of(in_flight[index]).op == DeviceOp::flush);
      in_flight.erase(in_flight.begin() + static_cast<long>(index));
    }
  }
  return builder.log();
}

}  // namespace

TEST_CASE(
    "between two flushes any of the writes may be missing, before the first flush none stay") {
  LogBuilder builder;
  builder.write(1);  // request 1
  builder.flush();
  builder.write(2);  // 3
  builder.write(3);  // 4
  builder.flush();
  const Found found = enumerate(builder.log());
  CHECK(found.whole == std::set<Contents>{contents({}), contents({{1, 1}}),
                                          contents({{1, 1}, {2, 3}}), contents({{1, 1}, {3, 4}}),
                                          contents({{1, 1}, {2, 3}, {3, 4}})});
}

TEST_CASE("a write that completes after the flush was submitted is not covered by it") {
  LogBuilder builder;
  const uint64_t late = builder.submit(DeviceOp::write, 1);
  builder.write(2);
  const uint64_t flush = builder.submit(DeviceOp::flush);
  builder.complete(late);
  builder.complete(flush);
  const Found found = enumerate(builder.log());
  CHECK(found.whole.contains(contents({{2, 2}})));
  CHECK(found.whole.contains(contents({{1, 1}, {2, 2}})));
}

TEST_CASE("a FUA write is durable when it has completed, and hides older writes of its blocks") {
  LogBuilder builder;
  builder.write(1);           // 1, cached
  builder.write(1, 1, true);  // 2
  builder.write(2);           // 3
  const Found found = enumerate(builder.log());
  CHECK(found.whole == std::set<Contents>{contents({}), contents({{1, 1}}), contents({{1, 2}}),
                                          contents({{1, 2}, {2, 3}})});
}

TEST_CASE("a write in flight at the end may have arrived; a failed flush makes nothing durable") {
  LogBuilder builder;
  builder.write(1);
  builder.complete(builder.submit(DeviceOp::flush), true);
  builder.submit(DeviceOp::write, 2);
  const Found found = enumerate(builder.log());
  CHECK(found.whole.size() == 4);
  CHECK(found.whole.contains(contents({})));
  CHECK(found.whole.contains(contents({{2, 3}})));
}

TEST_CASE("a discard that is not flushed may have happened or not") {
  LogBuilder builder;
  builder.write(1, 3);
  builder.flush();
  builder.complete(builder.submit(DeviceOp::discard, 0, kBlocks));
  const Found found = enumerate(builder.log());
  CHECK(found.whole == std::set<Contents>{contents({}), contents({{1, 1}, {2, 1}, {3, 1}})});
}

TEST_CASE("random logs give only states that are possible, each once, and all extreme ones") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    const IoLog log = random_log(seed);
    CrashImages images(log, base_of(log), {100000, seed, false});
    std::set<std::string> ids;
    std::set<Contents> contents, whole;
    while (const auto state = images.next()) {
      CAPTURE(state->id.text());
      CHECK(ids.insert(state->id.text()).second);
      const Contents found = contents_of(*state);
      contents.insert(found);
      for (uint64_t lba = 0; lba < kBlocks; ++lba) {
        CHECK(possible(log, state->id.event, lba).values.contains(found[lba]));
      }
      if (std::ranges::count(state->fates, WriteFate::torn) == 0) {
        CHECK(whole.insert(found).second);
      }
    }
    CHECK(ids.size() + images.repeated() == images.candidates());
    for (size_t event = 0; event <= log.events.size(); ++event) {
      Contents durable;
      for (uint64_t lba = 0; lba < kBlocks; ++lba) {
        durable.push_back(possible(log, event, lba).durable);
      }
      CHECK(contents.contains(durable));
    }
  }
}

TEST_CASE("with nothing that may be lost, exactly what was durable is left, at every event") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    const IoLog log = random_log(seed);
    CrashImages images(log, base_of(log), {0, seed, false});
    for (size_t event = 0; event <= log.events.size(); ++event) {
      CAPTURE(event);
      const auto state = images.state({event, CrashVariant::nothing, 0});
      REQUIRE(state.ok());
      const Contents found = contents_of(*state);
      for (uint64_t lba = 0; lba < kBlocks; ++lba) {
        CHECK(found[lba] == possible(log, event, lba).durable);
      }
    }
  }
}

TEST_CASE("a torn write leaves whole sectors, old or new") {
  LogBuilder builder;
  builder.write(1, 2);
  builder.flush();
  builder.write(1, 2);
  CrashImages images(builder.log(), base_of(builder.log()), {1000, 7, false});
  size_t mixed = 0;
  while (const auto state = images.next()) {
    if (state->id.variant != CrashVariant::torn || state->id.event < 4) continue;
    std::set<int> values;
    for (const uint64_t lba : {1, 2}) {
      const auto page = state->image.page(Lba(lba));
      REQUIRE(page);
      for (size_t i = 0; i < kBlockSize; ++i) {
        CHECK((*page)[i] == (*page)[i / 512 * 512]);
        values.insert(static_cast<int>((*page)[i]));
      }
    }
    for (const int value : values) CHECK((value == 1 || value == 3));
    mixed += values.size() == 2;
  }
  CHECK(mixed > 0);
}

TEST_CASE("as many states as asked for come from all over the log, the same for the same seed") {
  LogBuilder builder;
  for (uint64_t i = 0; i < 60; ++i) {
    for (uint64_t lba = 0; lba < 1 + i % 5; ++lba) builder.write((i + lba) % kBlocks);
    builder.flush();
  }
  const IoLog& log = builder.log();
  for (const uint64_t images : {1, 7, 30, 100, 500}) {
    CAPTURE(images);
    const Found found = enumerate(log, {images, 5, false});
    CHECK(found.ids.size() == images);
    CHECK(found.ids == enumerate(log, {images, 5, false}).ids);
    CHECK(found.ids != enumerate(log, {images, 6, false}).ids);
    std::set<uint64_t> parts;
    for (const std::string& id : found.ids) {
      const auto parsed = CrashStateId::parse(id);
      REQUIRE(parsed.ok());
      parts.insert(parsed->event * 7 / (log.events.size() + 1));
    }
    CHECK(parts.size() == std::min<uint64_t>(images, 7));
  }
  CHECK(enumerate(log, {0, 1, false}).ids.empty());
}

TEST_CASE("a state is found again by its id") {
  const IoLog log = random_log(3);
  CrashImages images(log, base_of(log), {50, 9, false});
  CrashImages again(log, base_of(log), {1, 9, false});
  while (const auto state = images.next()) {
    CAPTURE(state->id.text());
    const auto id = CrashStateId::parse(state->id.text());
    REQUIRE(id.ok());
    CHECK(*id == state->id);
    const auto found = again.state(*id);
    REQUIRE(found.ok());
    CHECK(found->image.flatten() == state->image.flatten());
    CHECK(found->describe() == state->describe());
  }
  // Backwards too, and never beyond what there is.
  CHECK(again.state({0, CrashVariant::nothing, 0}).ok());
  CHECK_FALSE(again.state({0, CrashVariant::all, 0}).ok());
  CHECK_FALSE(again.state({log.events.size() + 1, CrashVariant::nothing, 0}).ok());
  CHECK_FALSE(again.state({log.events.size(), CrashVariant::torn, 1000}).ok());
}

TEST_CASE("what is no state id is refused") {
  for (const char* text : {"", ".", "5", "5.", "5.some", "x.all", "5.all.0", "5.torn", "5.torn.",
                           "5.torn.-1", "5.torn.1.2", "99999999999999999999.all", "05.all"}) {
    CAPTURE(text);
    CHECK_FALSE(CrashStateId::parse(text).ok());
  }
}

TEST_CASE("marks before the crash are told, and can make states different") {
  LogBuilder builder;
  builder.write(1);
  builder.flush();
  builder.mark("one");
  builder.mark("two");
  builder.write(2);
  const auto marks_of = [&](bool by_mark) {
    CrashImages images(builder.log(), base_of(builder.log()), {1000, 1, by_mark});
    std::set<std::pair<std::string, Contents>> all;
    while (const auto state = images.next()) {
      if (std::ranges::count(state->fates, WriteFate::torn) > 0) continue;
      CHECK(state->marks == (state->last_mark.empty() ? 0 : state->last_mark == "one" ? 1 : 2));
      all.emplace(state->last_mark, contents_of(*state));
    }
    return all;
  };
  CHECK(marks_of(false).size() == 3);
  const auto all = marks_of(true);
  CHECK(all.contains({"one", contents({{1, 1}})}));
  CHECK(all.contains({"two", contents({{1, 1}})}));
  CHECK(all.contains({"two", contents({{1, 1}, {2, 3}})}));
  CHECK_FALSE(all.contains({"one", contents({})}));
}

TEST_CASE("the base is part of every state, and what a state says about itself is readable") {
  LogBuilder builder;
  builder.write(1);
  IoLog log{kBlocks, {}};
  IoEvent base;
  base.kind = IoEventKind::base;
  base.op = DeviceOp::write;
  base.lba = Lba(4);
  base.length_blocks = 2;
  base.payload.assign(2 * kBlockSize, std::byte{77});
  log.events.push_back(base);
  for (const IoEvent& event : builder.log().events) log.events.push_back(event);
  const Found found = enumerate(log);
  CHECK(found.whole ==
        std::set<Contents>{contents({{4, 77}, {5, 77}}), contents({{1, 1}, {4, 77}, {5, 77}})});
  CrashImages images(log, base_of(log), {});
  CHECK(images.state({2, CrashVariant::all, 0})->describe() ==
        "crash after 2 events of the log and 0 marks; of 1 writes not known to be durable:\n"
        "    kept write of blocks 1+1, not completed\n");
}

TEST_CASE("an overlay device keeps what is written to it and leaves the image below alone") {
  MemoryImage below(kBlocks);
  AlignedBuffer ones(2 * kBlockSize), out(kBlockSize);
  std::ranges::fill(ones.span(), std::byte{1});
  below.write(Lba(3), ones.span());
  OverlayDevice device{ImageOverlay(below)};
  std::ranges::fill(ones.span(), std::byte{2});
  REQUIRE(device.write(Lba(4), ones.span(), true).ok());
  REQUIRE(device.flush().ok());
  REQUIRE(device.discard({Lba(5), 3}).ok());
  const auto first_byte = [&](uint64_t lba) {
    REQUIRE(device.read(Lba(lba), out.span()).ok());
    return static_cast<int>(out.span()[0]);
  };
  CHECK(first_byte(3) == 1);
  CHECK(first_byte(4) == 2);
  CHECK(first_byte(5) == 0);
  CHECK(below.populated_blocks() == 2);
  CHECK(static_cast<int>((*below.page(Lba(4)))[0]) == 1);
  CHECK_FALSE(device.write(Lba(kBlocks), ones.span()).ok());
}
