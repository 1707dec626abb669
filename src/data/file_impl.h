// SPDX-License-Identifier: GPL-2.0-or-later
// The contents of one file.
//
// `mutex_` guards pages, ordered extents and sizes; it is never held across device I/O, waits for
// space or journal, or a commit. InodeState::mutex is taken before it. The size here is the
// authority; InodeAttributes follows.
//
// Invariants:
//  - a cached page is zero beyond the size;
//  - a page leaves the cache only after its mapping is committed, so that a reader who looks at the
//    pages first and at the tree second misses nothing;
//  - promised_ holds one block per dirty page (dirty, writeback_dirty), except those of in_place_:
//    they are `dirty`, and unwritten blocks wait for them;
//  - tail_ has every block with bytes at or above the disk size that were never committed. The
//    disk size passes a block only when it has left tail_, and ordered extents above a block of
//    tail_ wait, so that no written extent lies beyond the disk size.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "data/context_impl.h"
#include "data/direct_write.h"
#include "data/extent_map.h"
#include "data/file_data.h"
#include "data/interval_set.h"
#include "data/ordered_io.h"
#include "data/page_map.h"
#include "data/range_lock.h"

namespace stablefs {

// To whole blocks.
constexpr uint64_t round_down(uint64_t bytes) {
  return bytes / kBlockSize * kBlockSize;
}
constexpr uint64_t round_up(uint64_t bytes) {
  return blocks_for_bytes(bytes) * kBlockSize;
}

// Of operations in one link of a chain of transactions over a file.
inline constexpr size_t kLinkBytes = 96 * 1024;
// That with what the first operation may exceed it by.
inline constexpr size_t kLinkBytesMax = 160 * 1024;

// Blocks that are ours by a ticket we hold.
struct OwnedBlocks {
  uint64_t first = kEndOfFileBlocks;
  uint64_t end = kEndOfFileBlocks;

  bool has(uint64_t block) const { return block >= first && block < end; }
  // The end of what is all ours, or all not, from `block` to `limit`.
  uint64_t same_until(uint64_t block, uint64_t limit) const {
    if (block < first) return std::min(limit, first);
    return block < end ? std::min(limit, end) : limit;
  }
};

class FileImpl final : public FileData {
 public:
  FileImpl(ContextImpl& context, InodeState& inode);
  ~FileImpl() override;

  Result<uint64_t> read(uint64_t offset_bytes, std::span<std::byte> out, ReadCache cache) override;
  Result<uint64_t> write(uint64_t offset_bytes, const BufferSlice& payload,
                         std::optional<Timestamp> now) override;
  Status write_direct(uint64_t offset_bytes, const BufferSlice& payload, Timestamp now,
                      DirectDone done) override;
  Status truncate(uint64_t size_bytes, Timestamp now) override;
  Status punch(uint64_t offset_bytes, uint64_t length_bytes, Timestamp now) override;
  Status zero(uint64_t offset_bytes, uint64_t length_bytes, bool keep_size, Timestamp now) override;
  Status allocate(uint64_t offset_bytes, uint64_t length_bytes, bool keep_size,
                  Timestamp now) override;
  Result<uint64_t> copy_range(uint64_t offset_bytes, FileData& target, uint64_t target_offset_bytes,
                              uint64_t length_bytes, Timestamp now) override;
  Status write_back() override;
  bool has_dirty_pages() override;
  Status remove_all() override;
  Result<uint64_t> seek(uint64_t offset_bytes, bool hole) override;
  Status set_app_tag(uint16_t app_tag, Timestamp now) override;
  Result<std::vector<Run>> mapped_runs(uint64_t first_block, uint64_t end_block) override;
  uint64_t promised_blocks() override;
  void drop_clean() override;
  bool has_lost_pages() override;
  uint64_t error_count() override { return errors_.load(); }
  Status free_extents(uint64_t start_block, const std::function<void(Transaction&)>& last) override;

  // --- for the context
  void submit_dirty();                   // everything that can be submitted now
  void finish(OrderedIo& io);            // the device is done with it
  void finish_held();                    // what waits for pages that will not be written any more
  uint64_t evict(bool even_if_touched);  // clean pages; returns how many went
  bool idle();                           // no page at all
  void list_in_flight(std::vector<InFlight>& out);

  FileSchedule schedule;

 private:
  static constexpr uint64_t kNoLimit = ~0ull;
  struct PageWrite;
  struct Submitted {
    bool any = false;      // something was submitted
    bool blocked = false;  // something was left because of somebody's ticket
  };
  enum class Verdict : uint8_t { commit, hold, fail };

  // --- pages
  Page* transition(uint64_t block, PageEvent event) FS_REQUIRES(mutex_);
  void zero_in_cache(uint64_t from_byte) FS_REQUIRES(mutex_);

  // --- reading (file_read.cc)
  struct Missing {
    uint64_t first_block, end_block;
    uint64_t read_id;  // not 0: these pages are `reading` on our account
  };
  void copy_cached(uint64_t offset, std::span<std::byte> out, bool keep,
                   std::vector<Missing>& missing);
  Status read_missing(uint64_t offset, std::span<std::byte> out,
                      const std::vector<Missing>& missing);
  void end_reading(const Missing& missing, const BufferSlice* content);
  // The bytes of a page that is absent; zeros for a hole.
  Result<BufferSlice> read_base(uint64_t block);
  Result<uint64_t> next_data(uint64_t block, uint64_t end_block);
  Result<uint64_t> next_hole(uint64_t block, uint64_t end_block);

  // --- writing (file_write.cc)
  void stage_whole_pages(PageWrite& job, const BufferSlice& payload, bool adopt);
  // Over [offset, end) and, when the end of the file may move, all that lies behind that. Returns
  // the blocks it covers.
  OwnedBlocks acquire_range(RangeTicket& ticket, RangeClass range_class, uint64_t offset,
                            uint64_t end, bool may_extend);
  Status zero_edge();
  // Inside the file, and under our truncate ticket.
  Status rewrite(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned);
  // Inside the file.
  Status write_zeros(uint64_t offset, uint64_t end, const OwnedBlocks& owned);
  Status write_pages(PageWrite& job);
  uint64_t count_not_dirty(uint64_t block, uint64_t end_block) FS_REQUIRES(mutex_);
  // What pages over some blocks get.
  struct Promise {
    SpaceReservation space;     // of the first of them, one for each; none:
    uint64_t in_place_end = 0;  // up to here they are unwritten and need none
  };
  Result<Promise> promise(uint64_t block, uint64_t blocks);
  Result<SpaceReservation> reserve_overwrite(uint64_t blocks);
  // What a write to at most `limit` blocks from `block` on, which is not dirty, finds there: as
  // many replace written blocks, ...
  struct Below {
    uint64_t written = 0;
    uint64_t unwritten = 0;  // ... or go into unwritten ones; one of both is 0
  };
  Result<Below> look_below(uint64_t block, uint64_t limit);
  RewriteAction choose_rewrite(uint64_t block, bool whole) FS_REQUIRES(mutex_);
  // Until the version of the page that is in flight has landed.
  Status wait_for_landing(uint64_t block, const OwnedBlocks& owned);
  void install(PageWrite& job, uint64_t block, RewriteAction action) FS_REQUIRES(mutex_);
  BufferSlice new_content(const PageWrite& job, uint64_t block, RewriteAction action)
      FS_REQUIRES(mutex_);
  BufferSlice copy_of_page(const PageWrite& job, uint64_t block, const Page& old);
  OrderedIo* flight_of(uint64_t block) FS_REQUIRES(mutex_);

  // --- past the cache (file_direct.cc)
  Result<std::shared_ptr<DirectStart>> begin_direct(uint64_t offset, const BufferSlice& payload,
                                                    Timestamp now, uint64_t written_before,
                                                    DirectDone& done);
  Result<std::vector<OrderedIo*>> make_parts(const std::shared_ptr<DirectWrite>& direct,
                                             const BufferSlice& payload, const OwnedBlocks& owned);
  Result<Promise> promise_direct(const DirectWrite& direct, const OwnedBlocks& owned);
  Result<std::vector<BufferSlice>> direct_pages(const DirectWrite& direct,
                                                const BufferSlice& payload);
  Result<BufferSlice> merged_page(const PageWrite& job, uint64_t block);
  std::vector<OrderedIo*> enlist_parts(const std::shared_ptr<DirectWrite>& direct,
                                       std::vector<BufferSlice> pages, SpaceReservation space);
  void end_direct_pages(const OrderedIo& io) FS_REQUIRES(mutex_);

  // --- writeback (writeback.cc)
  Submitted submit_range(uint64_t first, uint64_t end, uint64_t stamp_limit,
                         const OwnedBlocks& owned = {});
  Submitted submit_below_held(const OwnedBlocks& owned);
  uint64_t dirty_run(uint64_t first, uint64_t end, uint64_t stamp_limit) FS_REQUIRES(mutex_);
  OrderedIo* take_run(uint64_t first, uint64_t end, uint64_t stamp_limit);
  OrderedIo& enter(std::unique_ptr<OrderedIo> io) FS_REQUIRES(mutex_);
  void start(OrderedIo* io);
  Status prepare(OrderedIo& io, OrderedIo*& rest);
  Status place(OrderedIo& io, const ExtentMap::Cost& cost, OrderedIo*& rest);
  OrderedIo& split(OrderedIo& io, uint64_t blocks);
  void guard(OrderedIo& io);
  void submit_io(OrderedIo& io, uint64_t skip_blocks);
  Status write_back_counted();
  Status write_back_range(uint64_t first_block, uint64_t end_block);
  Status wait_committed(uint64_t first_block, uint64_t stamp, const OwnedBlocks& owned,
                        uint64_t end_block = kNoLimit);
  Status wait_ordered(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned);

  // --- finishing (finisher.cc)
  using Work = std::vector<OrderedIo*>;
  struct Outcome {
    bool held = false;
    std::unique_ptr<OrderedIo> ended;
    Work released;                   // held ones that should be looked at again
    OrderedIo* next_part = nullptr;  // of the same direct write
    bool direct_over = false;        // it was the last part
  };
  bool arrived(OrderedIo& io);
  void finish_one(OrderedIo& io, Work& more);
  Status commit(OrderedIo& io, Outcome& outcome);
  Verdict judge(const OrderedIo& io) FS_REQUIRES(mutex_);
  uint64_t disk_size_after(const OrderedIo& io) FS_REQUIRES(mutex_);
  bool rewritten_since_seal(const OrderedIo& io, uint64_t block) FS_REQUIRES(mutex_);
  void disk_size_moved(uint64_t disk_size_bytes) FS_REQUIRES(mutex_);
  void fail(OrderedIo& io, Outcome& outcome);
  void report_loss(const OrderedIo& io);
  void report_failed_direct(const OrderedIo& io);
  std::string failure_text(const OrderedIo& io) const;
  void end_direct(DirectWrite& direct);
  void end(OrderedIo& io, PageEvent event, Outcome& outcome) FS_REQUIRES(mutex_);
  void end_pages(OrderedIo& io, PageEvent event) FS_REQUIRES(mutex_);
  bool has_turn(OrderedIo& io);
  void finish_completed();

  // --- size (file_truncate.cc)
  uint64_t acquire_for_truncate(RangeTicket& ticket, uint64_t size_bytes);
  void release(RangeTicket& ticket);
  Status shrink(uint64_t size_bytes, Timestamp now, const OwnedBlocks& owned);
  Status cut_off(uint64_t size_bytes, Timestamp now, const OwnedBlocks& owned, uint64_t& free_from);
  Status write_back_below(uint64_t end_block, const OwnedBlocks& owned);
  Status wait_for_shrinks();
  Status grow(uint64_t size_bytes, Timestamp now, const OwnedBlocks& owned);
  Status commit_size(uint64_t size_bytes, Timestamp now, uint64_t& free_from);
  Status free_chain(uint64_t start_block, const std::function<Status(Transaction&)>& last);
  // Journal space for a link of a chain, before any lock is taken.
  Result<JournalReservation> reserve_link();
  // The same by the holder of the inode's mutex, who loses it for a while, or when this fails.
  // Nothing when it may still be waited for at the commit.
  Status reserve_link(MutexLock& attributes_lock, JournalReservation& journal)
      FS_REQUIRES(inode_.mutex);
  Result<Sequence> commit_link(const Transaction& transaction, JournalReservation& journal,
                               const SharingLock& shared);
  Status cancel_from(uint64_t first_block);
  void remove_pages(uint64_t first_block, uint64_t end_block) FS_REQUIRES(mutex_);
  void release_promise(uint64_t block) FS_REQUIRES(mutex_);

  // --- holes (file_punch.cc). All under a truncate ticket.
  enum class Clearing : uint8_t { free, keep };  // what becomes of the space of whole blocks
  Status clear(Clearing clearing, uint64_t offset, uint64_t length, bool keep_size, Timestamp now);
  Status clear_range(Clearing clearing, uint64_t offset, uint64_t end, Timestamp now,
                     const OwnedBlocks& owned);
  Status clear_edges(uint64_t offset, uint64_t end, uint64_t size, const OwnedBlocks& owned);
  Status clear_edge(uint64_t offset, uint64_t end, const OwnedBlocks& owned);
  Result<bool> is_hole(uint64_t block);
  Status clear_blocks(Clearing clearing, uint64_t first_block, uint64_t end_block,
                      const OwnedBlocks& owned);
  Result<uint64_t> unmap_link(uint64_t first_block, uint64_t end_block);
  Result<uint64_t> unwrite_link(uint64_t first_block, uint64_t end_block);
  Result<SpaceReservation> reserve_unwritten(const Run& run);
  struct Cleared {
    uint64_t end_block = 0;
    int64_t block_delta = 0;
    std::vector<Lba> healed{};
    SharingLock lock{};  // to be held until it is committed
  };
  using Clear = std::function<Result<Cleared>(Transaction&)>;
  Result<uint64_t> clear_link(uint64_t first_block, const Clear& clear_extents);

  // --- preallocation (file_allocate.cc). Under a truncate ticket as well.
  void touch(Timestamp now);
  Status fill_holes(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned);
  Result<uint64_t> fill_link(uint64_t block, uint64_t end_block, SpaceReservation& space);
  Status map_unwritten(uint64_t first_block, BlockRange range);
  Result<SpaceReservation> reserve_holes(uint64_t first_block, uint64_t end_block);
  Result<Run> committed_run(uint64_t block, uint64_t end_block);

  // --- copying into another file (file_clone.cc)
  class PairLock;
  struct Clone;
  struct SharedRange {
    uint64_t first_block, end_block;
    uint64_t end_bytes;  // of the file, at least
  };
  // What one call may still do.
  struct Budget {
    uint64_t bytes;  // through memory
    int links;       // transactions
    bool may_share = true;
  };
  enum class Sharable : uint8_t { yes, not_here, later, never };
  Result<uint64_t> copy_piece(Clone clone, Budget& budget);
  Result<uint64_t> copy_through_memory(const Clone& clone, Budget& budget);
  Result<uint64_t> share_settled(Clone clone, Budget& budget);
  void acquire_pair(Clone& clone, RangeTicket& ticket, RangeTicket& target_ticket);
  Sharable judge_clone(Clone& clone);
  bool same_app_tag(const FileImpl& other) const;
  bool uses_cache(uint64_t first_block, uint64_t end_block) FS_REQUIRES(mutex_);
  bool is_ordered(uint64_t first_block, uint64_t end_block) FS_REQUIRES(mutex_);
  bool is_under_way(uint64_t first_block, uint64_t end_block) FS_REQUIRES(mutex_);
  Result<uint64_t> share_blocks(const Clone& clone, Budget& budget);
  Result<uint64_t> share_link(const Clone& clone, uint64_t skip);
  // False: not now.
  Result<bool> commit_shared(Transaction& transaction, JournalReservation& journal,
                             const ExtentMap::Shared& shared, const SharedRange& range,
                             Timestamp now);

  // --- tuples (file_tags.cc)
  Status unshare();
  Result<uint64_t> unshare_from(uint64_t block);
  Status put_app_tag(uint16_t app_tag, Timestamp now);

  ContextImpl& context_;
  Store& store_;
  InodeState& inode_;
  const ExtentMap extents_;
  RangeLock ranges_;
  std::atomic<uint64_t> errors_{0};
  std::atomic<uint64_t> next_read_id_{1};

  Mutex mutex_{LockRank::page, "pages of a file"};
  CondVar pages_changed_;  // a page has left the state `reading`
  PageMap pages_ FS_GUARDED_BY(mutex_);
  std::map<uint64_t, std::unique_ptr<OrderedIo>> ordered_ FS_GUARDED_BY(mutex_);  // by first block
  std::map<uint64_t, OrderedIo*> held_ FS_GUARDED_BY(mutex_);  // completed, above a block of tail_
  IntervalSet tail_ FS_GUARDED_BY(mutex_);
  SpaceReservation promised_ FS_GUARDED_BY(mutex_);
  IntervalSet in_place_ FS_GUARDED_BY(mutex_);  // dirty without a promise
  uint64_t size_ FS_GUARDED_BY(mutex_) = 0;
  uint64_t disk_size_ FS_GUARDED_BY(mutex_) = 0;
  uint64_t stamp_ FS_GUARDED_BY(mutex_) = 0;            // of the last write
  uint64_t cut_from_ FS_GUARDED_BY(mutex_) = kNoLimit;  // block from which a shrink drops pages
  uint64_t write_backs_ FS_GUARDED_BY(mutex_) = 0;      // calls in progress
  uint64_t shrinks_begun_ FS_GUARDED_BY(mutex_) = 0;
  uint64_t shrinks_ended_ FS_GUARDED_BY(mutex_) = 0;  // committed, or failed
  Lba goal_ FS_GUARDED_BY(mutex_);                    // where the next blocks would be well placed
};

}  // namespace stablefs
