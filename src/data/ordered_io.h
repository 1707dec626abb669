// SPDX-License-Identifier: GPL-2.0-or-later
// An ordered extent with all it needs on its way: sealed pages, promised then allocated blocks,
// tuples, journal space, the device request. One thread at a time works on it: the submitter, the
// device, whoever took it from the completed queue.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "data/buffer.h"
#include "data/ordered_extent.h"
#include "device/block_device.h"
#include "integrity/tuple.h"
#include "store/store.h"

namespace stablefs {

struct DirectWrite;

struct OrderedIo {
  explicit OrderedIo(OrderedExtent covered) : extent(covered) {}
  OrderedIo(const OrderedIo&) = delete;
  OrderedIo& operator=(const OrderedIo&) = delete;

  // Data behind this offset is not in it: the size when the pages were sealed.
  uint64_t end_bytes() const { return std::min(size_at_seal, extent.end_block() * kBlockSize); }

  OrderedExtent extent;
  std::shared_ptr<DirectWrite> direct;  // what it is a part of; null: pages of the cache
  std::vector<BufferSlice> pages;       // one a block; sealed until the I/O is over
  bool sealed = false;
  uint64_t size_at_seal = 0;
  uint64_t submitted_ns = 0;  // when its pages were sealed
  // Truncated away while under way: given back instead of mapped. Guarded by the file's mutex.
  bool cancelled = false;
  // StablePolicy::off: the write that went into its memory last. Guarded by the file's mutex.
  std::string overwritten_by;
  bool redirtied = false;  // a page of it had been written again when it ended

  SpaceReservation space;  // empty: its pages were written to because there are unwritten blocks
  JournalReservation journal;
  uint64_t journal_bytes = 0;
  BlockRange range;       // length 0: nothing allocated
  bool in_place = false;  // these are unwritten blocks of the file
  std::vector<Tuple> tuples;
  std::vector<uint32_t> checksums;

  std::vector<iovec> memory;
  DeviceRequest request;
  Status status;             // of the last request
  uint64_t blocks_done = 0;  // by the last request
};

}  // namespace stablefs
