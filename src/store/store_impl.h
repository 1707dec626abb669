// SPDX-License-Identifier: GPL-2.0-or-later
// The store: tree, space map and journal ring put together under three locks (tree, space, journal:
// in that order), with the threads that carry commits and checkpoints.
//
// Commits are led by whoever waits: sync() writes batches in its own thread when nobody else does
// (group commit without a hand-off); the background thread only serves the commit interval and
// starts checkpoints.
#pragma once

#include <deque>
#include <map>
#include <utility>

#include "base/sync.h"
#include "store/commit_plan.h"
#include "store/journal_ring.h"
#include "store/space_map.h"
#include "store/store.h"
#include "store/tree.h"

namespace stablefs {

class StoreImpl final : public Store {
 public:
  StoreImpl(BlockDevice& device, const StoreOptions& options, const DiskSuperblock& superblock);
  ~StoreImpl() override;

  Status recover();  // once, before anything else

  Status close() override;
  void stop(ErrorCode why) override;
  Result<std::optional<std::vector<std::byte>>> get(const Key& key) override;
  Result<std::vector<Item>> scan(const Key& first, const Key& last, size_t limit) override;
  Result<std::optional<Item>> floor(const Key& at, const Key& first) override;
  ReadPin pin() override;
  Result<Sequence> commit(const Transaction& transaction, bool grows,
                          JournalReservation* journal) override;
  Result<JournalReservation> reserve_journal(uint64_t bytes) override;
  Status sync(Sequence sequence) override;
  Sequence last_sequence() const override { return Sequence(last_sequence_.load()); }
  Sequence durable_sequence() const override { return Sequence(durable_sequence_.load()); }
  Status checkpoint() override { return run_checkpoint(false); }
  Result<SpaceReservation> reserve_space(uint64_t blocks, SpaceUse use) override;
  Result<BlockRange> allocate(SpaceReservation& reservation, uint64_t want, Lba goal) override;
  void give_back(BlockRange range) override;
  SpaceUsage space_usage() override;
  Result<uint64_t> discard_free(BlockRange range, uint64_t least_blocks) override;
  Ino new_ino() override { return Ino(next_ino_.fetch_add(1)); }
  const DiskSuperblock& superblock() const override { return superblock_; }
  Interval interval() const override { return interval_of(superblock_); }
  std::optional<Error> failure() const override;
  const StoreCounters& counters() const override { return counters_; }
  StoreGauges gauges() override;
  void visit_nodes(const std::function<void(const NodeView&, const Status&)>& visit) override;
  Result<bool> is_allocated(Lba lba) override;
  Result<std::vector<std::byte>> group_bitmap(uint32_t group) override;

 private:
  // What a checkpoint froze: everything it needs without the locks.
  struct Frozen {
    Sequence sequence;
    Generation generation;
    NodeRef root;
    std::vector<NodeRef> nodes;  // children first
    std::vector<Lba> replaced;   // nodes of older generations, free once this one is durable
    std::vector<SpaceMap::FrozenBitmap> bitmaps;
    BatchRef last_batch;  // its checksum is the chain at the tail
    uint64_t tail_position = 0;
    uint64_t free_blocks = 0;
    uint64_t next_ino = 0;
    uint64_t unwritten_blocks = 0;
  };

  void release_space(uint64_t blocks) override;
  void release_journal(uint64_t bytes) override;
  void release_pin(uint64_t epoch) override;

  // faulting.cc
  Result<AlignedBuffer> read_node(const NodeRef& node);
  Status fault_in(const NodeRef& node);
  // For loops that look again afterwards: fails only when the same node fails twice in a row.
  Status fault_in_for_read(const NodeRef& node, NodeRef& failed);
  Status load_group(uint32_t group);

  // commit.cc
  Result<Sequence> apply(const Transaction& transaction,
                         const std::vector<JournalOperation>& operations,
                         JournalReservation& journal);
  // What must be loaded before the operations can be applied; nothing: all is there.
  struct Missing {
    NodeRef node;
    std::optional<uint32_t> group;
    explicit operator bool() const { return node || group; }
  };
  Missing find_missing(const std::vector<JournalOperation>& operations) FS_REQUIRES(tree_mutex_);
  Status load(const Missing& missing, NodeRef& failed);
  Status apply_operations(const std::vector<JournalOperation>& operations, Sequence sequence,
                          bool replay) FS_REQUIRES(tree_mutex_);
  // Before `operation` on the tree: keeps the number of unwritten blocks right.
  void count_unwritten(const JournalOperation& operation) FS_REQUIRES(tree_mutex_, space_mutex_);
  Result<JournalReservation> take_journal(uint64_t bytes);
  void wait_for_share(uint64_t charge);
  Status lead_commit() FS_REQUIRES(journal_mutex_);  // drops the lock during I/O
  Status write_batch(JournalBatch& batch, uint32_t previous_checksum, Sequence flushed);
  Status write_ring(uint64_t position_blocks, std::span<const std::byte> bytes, bool fua);

  // space.cc
  uint64_t available_locked(SpaceUse use) const FS_REQUIRES(space_mutex_);
  uint64_t node_reserve_blocks() const;
  uint64_t transit_reserve_blocks() const;
  Status check_growth();
  Status reclaim();  // commits and checkpoints, so that what was freed becomes usable
  bool reclaim_would_help();
  void note_batch_durable(Sequence sequence);
  void note_nodes_replaced(const std::vector<Lba>& nodes);
  void release_unpinned() FS_REQUIRES(space_mutex_);

  // discard.cc
  bool discards() const { return options_.discard && device_.supports_discard(); }
  void note_free(BlockRange range) FS_REQUIRES(space_mutex_);
  void discard_thread();
  void discard_freed();  // all of them
  std::optional<BlockRange> hold_free(BlockRange& range, uint64_t least_blocks);
  Status discard_held(BlockRange range);
  void wait_for_discards(uint64_t want) FS_REQUIRES(space_mutex_);
  void stop_discards();

  // checkpoint.cc
  Status run_checkpoint(bool clean);
  Status do_checkpoint(bool clean);
  Status prepare_groups();
  Result<std::optional<Frozen>> freeze();  // nothing: more groups must be loaded first
  void assign_addresses(const std::vector<NodeRef>& nodes) FS_REQUIRES(tree_mutex_, space_mutex_);
  Status write_nodes(const Frozen& frozen);
  Status write_bitmaps(const Frozen& frozen);
  Status write_space_table(uint32_t slot, uint32_t& checksum);
  void compose_superblock(const Frozen& frozen, uint32_t table_slot, uint32_t table_checksum,
                          bool clean);
  Status write_superblock(uint64_t slot, bool fua);
  void finish_checkpoint(const Frozen& frozen);

  // recovery.cc
  Status load_last_state();
  Status begin_new_history();
  Status load_space_table();
  struct ReplayBatch {
    AlignedBuffer bytes;
    uint64_t position;  // of the batch behind it
    const DiskBatchHeader& header() const {
      return *reinterpret_cast<const DiskBatchHeader*>(bytes.data());
    }
  };
  Result<uint64_t> replay();  // where the next batch goes
  Result<std::optional<ReplayBatch>> read_batch(uint64_t ring_block, Sequence expected,
                                                uint32_t chain);
  Status replay_batch(const ReplayBatch& batch);
  Status replay_record(Sequence sequence, uint32_t op_count, std::span<const std::byte> body);
  size_t arrived_prefix(const std::deque<ReplayBatch>& unconfirmed);
  std::optional<Lba> first_not_arrived(const std::deque<ReplayBatch>& unconfirmed, size_t count);
  bool data_arrived(Lba lba, uint32_t checksum);
  Status look_for_lost_batches(uint64_t ring_block, uint64_t walked);
  Status read_ring(uint64_t ring_block, std::span<std::byte> out);

  // Nothing is committed any more. Before this returns, nobody else can commit or acknowledge.
  void fail(const Error& error);
  bool may_commit() const { return health_.allows(Activity::commit); }
  Status flush_device();
  Status check_writable() const;
  void background();
  void join_threads();
  // An atomic count: no lock needed.
  uint64_t dirty_nodes() const FS_NO_THREAD_SAFETY_ANALYSIS { return tree_.dirty_nodes(); }

  BlockDevice& device_;
  const StoreOptions options_;
  const std::unique_ptr<Health> own_health_;  // when the options bring none
  Health& health_;
  DiskSuperblock superblock_;  // as of the mount; constant after recover()
  DiskSuperblock latest_;      // as last written; belongs to whoever runs the checkpoint
  const uint64_t dirty_node_limit_;
  const uint32_t copies_;
  StoreCounters counters_;

  SharedMutex tree_mutex_{LockRank::tree, "tree"};
  Tree tree_ FS_GUARDED_BY(tree_mutex_);
  std::atomic<uint64_t> last_sequence_{0};
  std::atomic<uint64_t> durable_sequence_{0};
  std::atomic<uint64_t> next_ino_{2};

  Mutex space_mutex_{LockRank::space, "space"};
  SpaceMap space_ FS_GUARDED_BY(space_mutex_);
  uint64_t reserved_blocks_ FS_GUARDED_BY(space_mutex_) = 0;
  uint64_t in_flight_blocks_ FS_GUARDED_BY(space_mutex_) = 0;
  uint64_t unwritten_blocks_ FS_GUARDED_BY(space_mutex_) = 0;  // of all extents in the tree
  struct PendingFree {
    Sequence sequence;
    BlockRange range;
  };
  std::deque<PendingFree> pending_frees_ FS_GUARDED_BY(space_mutex_);
  // Durable frees wait until every pin taken before is gone: an epoch ends with each addition.
  std::map<uint64_t, uint64_t> pins_ FS_GUARDED_BY(space_mutex_);  // epoch -> holders
  uint64_t pin_epoch_ FS_GUARDED_BY(space_mutex_) = 1;
  std::deque<std::pair<uint64_t, BlockRange>> unpinned_wait_ FS_GUARDED_BY(space_mutex_);

  // Blocks that became free and were not discarded yet, as long as nobody allocates them.
  std::vector<BlockRange> freed_ FS_GUARDED_BY(space_mutex_);
  uint64_t freed_since_ns_ FS_GUARDED_BY(space_mutex_) = 0;
  uint64_t freed_blocks_ FS_GUARDED_BY(space_mutex_) = 0;
  // Free blocks that are busy while the device discards them.
  uint64_t discarding_blocks_ FS_GUARDED_BY(space_mutex_) = 0;
  uint32_t waiting_for_discards_ FS_GUARDED_BY(space_mutex_) = 0;
  bool stop_discards_ FS_GUARDED_BY(space_mutex_) = false;
  CondVar discard_work_;
  CondVar discard_done_;

  Mutex journal_mutex_{LockRank::journal, "journal"};
  CondVar journal_changed_;  // batch written, tail moved, failure, stop
  CondVar background_work_;
  std::unique_ptr<JournalRing> ring_ FS_GUARDED_BY(journal_mutex_);
  bool committing_ FS_GUARDED_BY(journal_mutex_) = false;
  bool checkpointing_ FS_GUARDED_BY(journal_mutex_) = false;
  bool flushing_ FS_GUARDED_BY(journal_mutex_) = false;
  bool checkpoint_wanted_ FS_GUARDED_BY(journal_mutex_) = false;
  bool stopping_ FS_GUARDED_BY(journal_mutex_) = false;
  uint64_t share_waiters_ FS_GUARDED_BY(journal_mutex_) = 0;
  // The batch written last maps data and no later header says yet that it was flushed.
  bool unconfirmed_ FS_GUARDED_BY(journal_mutex_) = false;
  uint64_t unconfirmed_since_ns_ FS_GUARDED_BY(journal_mutex_) = 0;
  uint64_t open_since_ns_ FS_GUARDED_BY(journal_mutex_) = 0;  // oldest record not yet written
  // Checksum of the batch written last: belongs to the committing thread (and to recovery).
  uint32_t chain_ = 0;
  uint8_t epoch_[16] = {};

  Thread background_thread_;
  Thread discard_thread_;
};

}  // namespace stablefs
