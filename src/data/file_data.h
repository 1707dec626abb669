// SPDX-License-Identifier: GPL-2.0-or-later
// The contents of files: page cache, stable writeback, ordered extents, range locks.
//
// DataContext is shared by all files of a mount (writeback and finishing threads, limits,
// counters); FileData belongs to one inode and lives in its in-memory inode.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/result.h"
#include "data/buffer.h"
#include "data/damage_list.h"
#include "data/extent_map.h"
#include "data/inode_state.h"
#include "data/stable_policy.h"
#include "device/block_device.h"
#include "store/store.h"

namespace stablefs {

struct DataOptions {
  Clock* clock = nullptr;
  Logger* logger = nullptr;
  // The store's; nothing: one of its own, with the default policy.
  Health* health = nullptr;
  bool read_only = false;                        // nothing may be written, the damage list included
  uint64_t writeback_delay_ns = 500 * kNsPerMs;  // 0: submit as soon as dirty
  uint64_t dirty_limit_bytes = 256ull << 20;     // writers wait for writeback beyond this
  StablePolicy stable = StablePolicy::automatic;
  uint64_t shadow_limit_bytes = 64ull << 20;  // second versions of pages in flight
  bool guard = true;                          // false: for measuring; what is written is unreadable
  bool keep_clean = false;                    // cache=daemon: clean pages stay, up to
  uint64_t clean_limit_bytes = 512ull << 20;  // this much
};

struct DataCounters {
  std::atomic<uint64_t> reads{0}, read_bytes{0}, writes{0}, written_bytes{0}, pages_adopted{0},
      pages_copied{0}, cache_hits{0}, cache_misses{0}, guard_verified{0}, guard_mismatches{0},
      ordered_created{0}, ordered_committed{0}, ordered_failed{0}, ordered_split{0},
      direct_writes{0}, direct_bytes{0}, direct_short{0}, direct_waits{0}, direct_failed{0},
      stable_swaps{0}, stable_copies{0}, stable_waits{0}, stable_overwrites{0}, throttle_waits{0},
      write_errors{0}, shared_bytes{0}, copied_bytes{0};
};
struct DataGauges {
  uint64_t dirty_bytes, writeback_bytes, clean_bytes, shadow_bytes, lost_bytes, ordered_in_flight,
      direct_bytes, damage_entries;
};

// Of what a read brings from the device: `no` leaves the cache as it is (O_DIRECT).
enum class ReadCache : uint8_t { keep, no };

// How many bytes, from the first on, are mapped now. Called once, from any thread, with no lock
// held; what waits for the file to be idle must not happen in there.
using DirectDone = std::function<void(Result<uint64_t> written)>;

// An ordered extent on its way, for whoever looks into a stall.
struct InFlight {
  Ino ino;
  uint64_t first_block = 0, length_blocks = 0;  // of the file
  const char* state = "";
  bool direct = false;
  bool held = false;  // complete, waiting for what lies below it in the file
  uint64_t age_ns = 0;
};

class FileData;

class DataContext {
 public:
  static std::unique_ptr<DataContext> create(Store& store, BlockDevice& device,
                                             const DataOptions& options);
  virtual ~DataContext() = default;
  virtual std::unique_ptr<FileData> open(InodeState& inode) = 0;
  // Writes back every dirty page that is dirty now, of all files, and waits until committed.
  virtual Status sync_all() = 0;
  // Stops the threads; dirty pages that are left are dropped (call sync_all before).
  virtual void stop() = 0;
  // Nothing is submitted any more; every waiter ends with shut_down.
  virtual void abandon() = 0;
  virtual StableControl& stable() = 0;
  virtual const DataCounters& counters() const = 0;
  virtual DataGauges gauges() = 0;
  virtual DamageList& damage() = 0;
  // The oldest first, at most `limit`.
  virtual std::vector<InFlight> in_flight(size_t limit) = 0;
};

// Thread-safe. Range conflicts are resolved inside (tickets in call order).
class FileData {
 public:
  virtual ~FileData() = default;  // no dirty page, no ordered extent, no caller inside

  // Verified bytes, newest version; stops at EOF. Zeros for holes.
  virtual Result<uint64_t> read(uint64_t offset_bytes, std::span<std::byte> out,
                                ReadCache cache = ReadCache::keep) = 0;
  // Owns the bytes when it returns. Moves size and sets mtime/ctime to `now`
  // (nothing: they are the kernel's, which sends them itself). no_space when the
  // blocks cannot be promised; a short count when only a prefix could.
  virtual Result<uint64_t> write(uint64_t offset_bytes, const BufferSlice& payload,
                                 std::optional<Timestamp> now) = 0;
  // Past the cache: from the payload to the device, without a copy but at unaligned edges. `done`
  // tells when it is mapped; size, mtime and ctime move only then. A failure leaves the old content
  // behind the count it tells, and is no loss. When this fails itself nothing was begun and `done`
  // is not called.
  virtual Status write_direct(uint64_t offset_bytes, const BufferSlice& payload, Timestamp now,
                              DirectDone done) = 0;
  // Any size change: exclusive over [min(old, new), infinity), waits for ordered extents there,
  // commits size (and frees) itself; mtime/ctime = now.
  virtual Status truncate(uint64_t size_bytes, Timestamp now) = 0;
  // These bytes, as far as the file reaches, are zero from now on: blocks that are wholly inside
  // are given back, of others just the bytes change. Waits for ordered extents there. A failure may
  // leave a part done. mtime/ctime = now.
  virtual Status punch(uint64_t offset_bytes, uint64_t length_bytes, Timestamp now) = 0;
  // The same, but all blocks the range touches keep their space or get some: whole ones become
  // unwritten. Without `keep_size` a file that is shorter grows to the end of the range.
  virtual Status zero(uint64_t offset_bytes, uint64_t length_bytes, bool keep_size,
                      Timestamp now) = 0;
  // All blocks the range touches have their space from now on, also behind the end of the file:
  // writing to them never fails with no_space. Contents stay as they are. no_space before anything
  // was done when there is not enough. Without `keep_size` a file that is shorter grows.
  virtual Status allocate(uint64_t offset_bytes, uint64_t length_bytes, bool keep_size,
                          Timestamp now) = 0;
  // These bytes, as far as this file reaches, into `target` (of the same context; this file too,
  // when the ranges do not overlap: else invalid_argument). Whole blocks that lie alike in both are
  // shared, as far as both files have the same application tag; mtime/ctime of the target = now.
  // Short when it is much that cannot be shared, or after an error; 0: this file ends at `offset`.
  virtual Result<uint64_t> copy_range(uint64_t offset_bytes, FileData& target,
                                      uint64_t target_offset_bytes, uint64_t length_bytes,
                                      Timestamp now) = 0;
  // Writes back what is dirty at the call and waits until it is committed (not yet durable: that
  // takes Store::sync of the inode's last_sequence). writeback_failed as long as the newest version
  // of a page is lost: until it is overwritten, truncated away, or gone with the file's memory.
  virtual Status write_back() = 0;
  virtual bool has_dirty_pages() = 0;
  // Unlinked and closed: drops the cache, cancels dirty pages, waits for I/O in flight, frees all
  // extents and tuples in a chain of transactions. The caller removes inode and orphan items.
  virtual Status remove_all() = 0;
  virtual Result<uint64_t> seek(uint64_t offset_bytes, bool hole) = 0;  // seek_beyond_end
  // From now on in every tuple of the file: the inode first, then the tuples there are, in a chain
  // of transactions that a crash may cut. What is shared with other files is copied before.
  virtual Status set_app_tag(uint16_t app_tag, Timestamp now) = 0;
  // What is committed of [first_block, end_block), with tuples.
  virtual Result<std::vector<Run>> mapped_runs(uint64_t first_block, uint64_t end_block) = 0;
  // Blocks promised to dirty pages (st_blocks counts them).
  virtual uint64_t promised_blocks() = 0;
  virtual void drop_clean() = 0;
  virtual bool has_lost_pages() = 0;
  // Number of write errors so far; an open file remembers the value and reports when it has grown.
  virtual uint64_t error_count() = 0;

  // Frees every extent with file block >= start_block and deletes its tuples, in a chain of
  // transactions; used for recovery of a truncation intent too. `last` may add operations to the
  // final transaction.
  virtual Status free_extents(uint64_t start_block,
                              const std::function<void(Transaction&)>& last) = 0;
};

}  // namespace stablefs
