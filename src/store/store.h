// SPDX-License-Identifier: GPL-2.0-or-later
// The metadata store: one ordered key space (B+tree, copy-on-write by generation), a logical
// journal with group commit, checkpoints, and the space maps.
//
// Threads: everything here is thread-safe. Callers serialise conflicting reads and commits of the
// same items themselves (inode locks). No call does disk I/O under the tree lock.
// Errors latch (store/health.h): after a failed journal write, flush or checkpoint every commit and
// sync fails with shut_down, and reads go on.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "device/block_device.h"
#include "format/key.h"
#include "format/node.h"
#include "format/superblock.h"
#include "store/health.h"
#include "store/transaction.h"

namespace stablefs {

struct StoreOptions {
  Clock* clock = nullptr;
  Logger* logger = nullptr;
  // Shared with the layers above; nothing: one of its own, with the default policy.
  Health* health = nullptr;
  // Replays in memory and writes nothing.
  bool read_only = false;
  // A transaction is on disk at most this long after its commit, also without sync.
  uint64_t commit_interval_ns = 5 * kNsPerSecond;
  // Bound on clean leaves kept in memory.
  uint64_t node_cache_bytes = 256ull << 20;
  // Fills the journal epoch of this mount; nothing: counted up from the last one.
  std::function<void(uint8_t epoch[16])> new_epoch;
  // Runs without background threads: the caller drives sync() and checkpoint() (unit tests, mkfs).
  bool background = true;
  // Tells the device, a while after, which blocks have become free.
  bool discard = false;
  uint64_t discard_delay_ns = 2 * kNsPerSecond;
};

struct StoreCounters {
  std::atomic<uint64_t> transactions{0}, journal_batches{0}, journal_blocks{0}, journal_records{0},
      checkpoints{0}, checkpoint_nodes{0}, node_reads{0}, node_evictions{0}, replayed_batches{0},
      replayed_records{0}, journal_waits{0}, space_waits{0}, discard_requests{0},
      discarded_blocks{0}, discard_errors{0};
};

struct StoreGauges {
  uint64_t nodes_loaded, nodes_dirty;
  uint64_t node_blocks_replaced;  // of old nodes, free after the next checkpoint
  uint64_t journal_used_blocks, blocks_reserved, blocks_pending_free;
  uint64_t blocks_to_discard;  // free, and the device will be told
};

struct SpaceUsage {
  uint64_t total_blocks;      // of the device
  uint64_t overhead_blocks;   // fixed regions and the reserve kept for tree nodes
  uint64_t free_blocks;       // free or about to be, beyond the reserve
  uint64_t available_blocks;  // free_blocks less what is promised to dirty data
  uint64_t unwritten_blocks;  // of extents without data: their share of metadata is promised too
};

struct Item {
  Key key;
  std::vector<std::byte> value;
};

class Store;

// growth: afterwards more is in use than before. overwrite: as many written blocks of a file are
// replaced.
enum class SpaceUse : uint8_t { growth, overwrite };

// A promise of data blocks (delayed allocation). Movable; gives back what is left when destroyed.
class SpaceReservation {
 public:
  SpaceReservation() = default;
  SpaceReservation(SpaceReservation&& other) noexcept { *this = std::move(other); }
  SpaceReservation& operator=(SpaceReservation&& other) noexcept;
  ~SpaceReservation() { release(); }
  uint64_t blocks() const { return blocks_; }
  void release();
  SpaceReservation split(uint64_t blocks);  // moves `blocks` of this promise into a new one
  void merge(SpaceReservation&& other);

 private:
  friend class Store;
  friend class StoreImpl;
  SpaceReservation(Store* store, uint64_t blocks) : store_(store), blocks_(blocks) {}
  Store* store_ = nullptr;
  uint64_t blocks_ = 0;
};

// Room in the journal for a transaction that must not wait later (an ordered extent's completion).
class JournalReservation {
 public:
  JournalReservation() = default;
  JournalReservation(JournalReservation&& other) noexcept { *this = std::move(other); }
  JournalReservation& operator=(JournalReservation&& other) noexcept;
  ~JournalReservation() { release(); }
  void release();
  bool held() const { return bytes_ != 0; }

 private:
  friend class Store;
  friend class StoreImpl;
  JournalReservation(Store* store, uint64_t bytes) : store_(store), bytes_(bytes) {}
  Store* store_ = nullptr;
  uint64_t bytes_ = 0;
};

// Blocks freed while a pin is held are not reused before it is gone: held by every reader of data
// blocks from the lookup of the extent to the verified completion.
class ReadPin {
 public:
  ReadPin() = default;
  ReadPin(ReadPin&& other) noexcept { *this = std::move(other); }
  ReadPin& operator=(ReadPin&& other) noexcept;
  ~ReadPin() { release(); }
  void release();

 private:
  friend class Store;
  friend class StoreImpl;
  ReadPin(Store* store, uint64_t epoch) : store_(store), epoch_(epoch) {}
  Store* store_ = nullptr;
  uint64_t epoch_ = 0;
};

class Store {
 public:
  // Reads the superblocks, loads the space table, replays the journal; writable: flushes first,
  // checkpoints under a new epoch before returning (design section 5, recovery).
  static Result<std::unique_ptr<Store>> open(BlockDevice& device, const StoreOptions& options);
  virtual ~Store() = default;

  // Makes everything durable, writes a clean checkpoint and stops the threads. Nothing but the
  // destructor may follow.
  virtual Status close() = 0;
  // Stops at once and writes nothing more (shutdown ioctl, tests' crash): the next mount recovers.
  virtual void stop(ErrorCode why) = 0;

  // --- reading
  virtual Result<std::optional<std::vector<std::byte>>> get(const Key& key) = 0;
  // Items with first <= key <= last in order, at most `limit`.
  virtual Result<std::vector<Item>> scan(const Key& first, const Key& last, size_t limit) = 0;
  // The last item with first <= key <= at.
  virtual Result<std::optional<Item>> floor(const Key& at, const Key& first) = 0;
  virtual ReadPin pin() = 0;

  // --- changing
  // Waits for journal space (device I/O only), faults in what it needs, applies under the tree
  // lock. On success the change is visible; it is durable after sync(sequence). With `journal` the
  // call never waits for journal space. `grows`: refuse with no_space when the reserve for nodes
  // would be touched (creating things); otherwise (deleting, finishing data) it always succeeds.
  virtual Result<Sequence> commit(const Transaction& transaction, bool grows,
                                  JournalReservation* journal = nullptr) = 0;
  virtual Result<JournalReservation> reserve_journal(uint64_t bytes) = 0;
  // Everything up to `sequence` is on stable storage when this returns.
  virtual Status sync(Sequence sequence) = 0;
  virtual Sequence last_sequence() const = 0;
  virtual Sequence durable_sequence() const = 0;
  virtual Status checkpoint() = 0;

  // --- space
  // Promises `blocks` data blocks, plus a share for the metadata they will need. no_space only
  // after pending frees were committed. May wait for device I/O. Overwrites free as much as they
  // take, once they are committed: they may draw on the transit reserve, which nothing else can.
  virtual Result<SpaceReservation> reserve_space(uint64_t blocks,
                                                 SpaceUse use = SpaceUse::growth) = 0;
  // Takes up to `want` contiguous blocks (at least 1) out of the reservation, near `goal` when that
  // is free (goal 0: anywhere). In flight until a transaction allocates them or they are
  // given back.
  virtual Result<BlockRange> allocate(SpaceReservation& reservation, uint64_t want, Lba goal) = 0;
  virtual void give_back(BlockRange range) = 0;  // allocated, never committed; its I/O is over
  virtual SpaceUsage space_usage() = 0;
  // Tells the device that what is free inside `range` is free, as far as runs have at least
  // `least_blocks`. Returns how many blocks that were; failures of the device are only counted.
  // What is being discarded is not allocated meanwhile.
  virtual Result<uint64_t> discard_free(BlockRange range, uint64_t least_blocks) = 0;

  // --- inode numbers: never reused
  virtual Ino new_ino() = 0;

  // --- state
  // As of the mount; uuid, label, seed, sizes and regions never change.
  virtual const DiskSuperblock& superblock() const = 0;
  virtual Interval interval() const = 0;
  virtual std::optional<Error> failure() const = 0;  // what latched, if anything
  virtual const StoreCounters& counters() const = 0;
  virtual StoreGauges gauges() = 0;

  // --- for fsck and dump: a quiet store only (read-only or nobody commits)
  struct NodeView {
    NodeAddress address;  // unassigned: changed in memory by the replay
    uint32_t level;
    uint32_t count;
    Key low;  // lower bound from the parent
  };
  // Every node, parents first. A node that cannot be read or is not valid is reported with its
  // error and not descended into.
  virtual void visit_nodes(const std::function<void(const NodeView&, const Status&)>& visit) = 0;
  // Is the block referenced by the tree at the last sequence, as the space map has it?
  virtual Result<bool> is_allocated(Lba lba) = 0;
  // Committed bitmap of one group (4096 bytes, bit set: allocated).
  virtual Result<std::vector<std::byte>> group_bitmap(uint32_t group) = 0;

 protected:
  friend class SpaceReservation;
  friend class JournalReservation;
  friend class ReadPin;
  virtual void release_space(uint64_t blocks) = 0;
  virtual void release_journal(uint64_t bytes) = 0;
  virtual void release_pin(uint64_t epoch) = 0;
};

// --- mkfs

struct FormatOptions {
  std::array<uint8_t, 16> uuid{};
  std::array<uint8_t, 16> hash_seed{};
  std::array<uint8_t, 16> epoch{};
  std::string label;
  uint64_t journal_blocks = 0;  // 0: default
  uint8_t copies = 1;
  Interval interval = Interval::block_4096;
  Timestamp created;
  uint32_t root_uid = 0, root_gid = 0;
  uint32_t root_mode = 0755;
};

// Writes an empty filesystem. Everything is durable before a superblock is written; old
// superblocks are wiped first, so that a crash leaves no filesystem rather than a wrong one.
Status format_device(BlockDevice& device, const FormatOptions& options);

// Reads the newest valid superblock (of four slots; the far ones by the device's size).
Result<DiskSuperblock> read_superblock(BlockDevice& device);

}  // namespace stablefs
