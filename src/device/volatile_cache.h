// SPDX-License-Identifier: GPL-2.0-or-later
// What a device with a volatile write cache holds, and what a power failure may leave of it.
//
// Writes since the last flush are a list of events over the durable image; a crash image applies
// any subset of them, in order, each whole or torn per 512-byte sector. A plain value without
// locks, so that crash images can be enumerated from a copy, or from a replayed I/O log.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/prng.h"
#include "device/block_device.h"
#include "device/image_overlay.h"
#include "device/memory_image.h"

namespace stablefs {

enum class WriteFate : uint8_t { kept, dropped, torn };

enum class CrashPolicy : uint8_t {
  keep_all,  // everything unflushed survives
  drop_all,  // nothing unflushed survives
  subset,    // each write is kept or dropped
  torn,      // each write is kept, dropped or torn
};

class VolatileCache {
 public:
  using PageRef = MemoryImage::PageRef;

  // One write, discard or write-zeroes that is not known to be durable.
  struct Event {
    uint64_t sequence = 0;  // order of arrival in the cache
    DeviceOp op = DeviceOp::write;
    BlockRange range;
    bool zeroes = false;                            // the whole range becomes zeros
    std::vector<std::pair<Lba, PageRef>> contents;  // else these blocks change
  };

  explicit VolatileCache(MemoryImage durable);

  const MemoryImage& durable() const { return durable_; }
  const MemoryImage& current() const { return current_; }  // what reads see
  const std::deque<Event>& events() const { return events_; }
  uint64_t last_sequence() const { return last_sequence_; }

  // `fua`: durable at once; older cached writes to the same blocks can no longer surface.
  void write(Lba lba, std::vector<PageRef> pages, bool fua);
  void zero(DeviceOp op, BlockRange range, bool fua);
  void add(Event event, bool fua);  // either of them; the sequence is given here
  // A discard after which every block that had contents reads as old bytes, zeros or noise.
  void scramble(BlockRange range, Prng& prng);
  // Makes every event up to and including this sequence durable.
  void flush(uint64_t up_to_sequence);

  // What a crash leaves over durable(): fates[i] belongs to *events[i]. These are events() and,
  // behind them, any that have not reached the cache yet. `tear` picks the sectors of torn writes.
  ImageOverlay crash_overlay(std::span<const Event* const> events, std::span<const WriteFate> fates,
                             Prng& tear) const;
  // fates[i] belongs to events()[i].
  MemoryImage crash_image(std::span<const WriteFate> fates, Prng& tear) const;
  MemoryImage crash_image(CrashPolicy policy, Prng& prng) const;

 private:
  template <class Image>
  void apply(const Event& event, Image& image, bool honour_fua) const;
  void apply_torn(const Event& event, ImageOverlay& image, Prng& tear) const;
  bool superseded(Lba lba, uint64_t sequence) const;

  MemoryImage durable_;
  MemoryImage current_;
  std::deque<Event> events_;
  // Sequence of the last FUA write of a block, kept while older events could overwrite it.
  std::map<uint64_t, uint64_t> fua_sequence_;
  uint64_t last_sequence_ = 0;
};

}  // namespace stablefs
