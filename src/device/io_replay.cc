// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/io_replay.h"

#include <utility>

#include "base/assert.h"

namespace stablefs {
namespace {

bool changes_blocks(DeviceOp op) {
  return op == DeviceOp::write || op == DeviceOp::discard || op == DeviceOp::write_zeroes;
}

VolatileCache::Event cache_event_of(const IoEvent& submit) {
  VolatileCache::Event event;
  event.op = submit.op;
  event.range = {submit.lba, submit.length_blocks};
  event.zeroes = submit.op == DeviceOp::discard || submit.op == DeviceOp::write_zeroes;
  if (submit.op != DeviceOp::write) return event;
  for (uint64_t i = 0; i < submit.length_blocks; ++i) {
    const auto block = std::span(submit.payload).subspan(i * kBlockSize, kBlockSize);
    event.contents.emplace_back(submit.lba + i, make_page(block));
  }
  return event;
}

}  // namespace

void IoReplay::step(const IoEvent& event) {
  if (event.kind == IoEventKind::complete) return complete(event);
  if (event.kind != IoEventKind::submit || event.op == DeviceOp::read) return;
  InFlight entry{cache_event_of(event), event.fua};
  // Newer than anything in the cache, until it arrives there. A flush remembers what it covers.
  entry.event.sequence = event.op == DeviceOp::flush ? cache_.last_sequence() : UINT64_MAX;
  in_flight_[event.request] = std::move(entry);
}

void IoReplay::complete(const IoEvent& event) {
  auto entry = in_flight_.extract(event.request);
  if (entry.empty()) return;
  VolatileCache::Event& done = entry.mapped().event;
  if (done.op == DeviceOp::flush) {
    if (!event.failed) cache_.flush(done.sequence);
    return;
  }
  const bool whole = !event.failed && event.length_blocks == done.range.length_blocks;
  cache_.add(std::move(done), entry.mapped().fua && whole);
}

std::vector<const VolatileCache::Event*> IoReplay::losable() const {
  std::vector<const VolatileCache::Event*> events;
  for (const VolatileCache::Event& event : cache_.events()) events.push_back(&event);
  for (const auto& [request, entry] : in_flight_) {
    if (changes_blocks(entry.event.op)) events.push_back(&entry.event);
  }
  return events;
}

VolatileCache IoReplay::crash_here() && {
  for (auto& [request, entry] : in_flight_) {
    if (changes_blocks(entry.event.op)) cache_.add(std::move(entry.event), false);
  }
  return std::move(cache_);
}

VolatileCache replay_io_log(const IoLog& log, size_t events, MemoryImage initial) {
  FS_ASSERT(events <= log.events.size());
  FS_ASSERT(initial.block_count() >= log.block_count);
  IoReplay replay(std::move(initial));
  for (size_t i = 0; i < events; ++i) replay.step(log.events[i]);
  return std::move(replay).crash_here();
}

}  // namespace stablefs
