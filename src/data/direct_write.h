// SPDX-License-Identifier: GPL-2.0-or-later
// A direct write under way: ordered extents straight from the caller's memory. The ticket is held
// until the last of them has ended, so meanwhile nobody reads, writes or submits these blocks, and
// what the cache has of them stays as it is: dropped with success, still there after a failure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/assert.h"
#include "base/sync.h"
#include "data/file_data.h"
#include "data/ordered_io.h"
#include "data/range_lock.h"

namespace stablefs {

// In which order the parts of a direct write end: that of the file, however they land, so that what
// is mapped is a prefix at any time. Behind a part that failed all fail. Passive; guarded by the
// file's mutex.
class DirectParts {
 public:
  void add(OrderedIo& io) { parts_.push_back({&io}); }
  // What was split off `io`.
  void add_behind(const OrderedIo& io, OrderedIo& rest);
  // The device is done with it, or it never got there. True when it may end now.
  bool landed(const OrderedIo& io);
  // The one whose turn it was has ended. Returns the next if it has landed.
  OrderedIo* ended(const Status& status);
  bool over() const { return turn_ == parts_.size(); }
  // Of the first part that failed.
  const Status& status() const { return status_; }

 private:
  struct Part {
    OrderedIo* io;
    bool landed = false;
  };
  std::vector<Part>::iterator find(const OrderedIo& io);

  std::vector<Part> parts_;  // in file order; those before turn_ are gone
  size_t turn_ = 0;
  Status status_;
};

// Where somebody waits for a direct write.
class DirectAnswer {
 public:
  void set(Result<uint64_t> result) {
    MutexLock lock(mutex_);
    result_ = std::move(result);
    there_.notify_all();
  }
  Result<uint64_t> wait() {
    MutexLock lock(mutex_);
    while (!result_) there_.wait(mutex_);
    return *result_;
  }

 private:
  Mutex mutex_{LockRank::leaf, "direct write"};
  CondVar there_;
  std::optional<Result<uint64_t>> result_ FS_GUARDED_BY(mutex_);
};

// Of a direct write there was no space for all of.
struct DirectStart {
  uint64_t bytes = 0;
  DirectAnswer mapped;
};

struct DirectWrite {
  DirectWrite(RangeLock& ranges, uint64_t offset_bytes, uint64_t end_bytes, Timestamp at)
      : ticket(ranges), offset(offset_bytes), end(end_bytes), now(at), mapped_end(offset_bytes) {}

  uint64_t first_block() const { return offset / kBlockSize; }
  uint64_t end_block() const { return blocks_for_bytes(end); }
  Result<uint64_t> result() const {
    if (mapped_end > offset) return mapped_end - offset;
    return parts.status().error();
  }

  RangeTicket ticket;
  const uint64_t offset;  // [offset, end) in bytes
  uint64_t end;           // less than what was asked for when there is no space
  const Timestamp now;
  DirectDone done;  // set before the first part is started
  // Guarded by the file's mutex.
  DirectParts parts;
  uint64_t mapped_end;  // up to here, in bytes
};

}  // namespace stablefs
