// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/io_replay.h"

#include <map>
#include <utility>
#include <vector>

#include "base/assert.h"

namespace stablefs {
namespace {

// Which submitted requests are unfinished, and what had completed when a flush was submitted.
class Replay {
 public:
  explicit Replay(MemoryImage initial) : cache_(std::move(initial)) {}

  void step(const IoEvent& event) {
    if (event.kind == IoEventKind::submit) {
      in_flight_[event.request] = {&event, cache_.last_sequence()};
      return;
    }
    const auto it = in_flight_.find(event.request);
    if (event.kind != IoEventKind::complete || it == in_flight_.end()) return;
    const auto [submit, up_to_sequence] = it->second;
    in_flight_.erase(it);
    if (submit->op == DeviceOp::flush) {
      if (!event.failed) cache_.flush(up_to_sequence);
      return;
    }
    apply(*submit, submit->fua && !event.failed);
  }

  VolatileCache crash_here() && {
    for (const auto& [number, entry] : in_flight_) apply(*entry.first, false);
    return std::move(cache_);
  }

 private:
  void apply(const IoEvent& submit, bool durable) {
    const BlockRange range{submit.lba, submit.length_blocks};
    if (submit.op == DeviceOp::discard || submit.op == DeviceOp::write_zeroes) {
      cache_.zero(submit.op, range, durable);
    }
    if (submit.op != DeviceOp::write) return;
    std::vector<MemoryImage::PageRef> pages;
    for (uint64_t i = 0; i < range.length_blocks; ++i) {
      pages.push_back(make_page(std::span(submit.payload).subspan(i * kBlockSize, kBlockSize)));
    }
    cache_.write(submit.lba, std::move(pages), durable);
  }

  VolatileCache cache_;
  std::map<uint64_t, std::pair<const IoEvent*, uint64_t>> in_flight_;
};

}  // namespace

VolatileCache replay_io_log(const IoLog& log, size_t events, MemoryImage initial) {
  FS_ASSERT(events <= log.events.size());
  FS_ASSERT(initial.block_count() >= log.block_count);
  Replay replay(std::move(initial));
  for (size_t i = 0; i < events; ++i) replay.step(log.events[i]);
  return std::move(replay).crash_here();
}

}  // namespace stablefs
