// SPDX-License-Identifier: GPL-2.0-or-later
// What the files of a mount share: the writeback thread, the finishing thread, limits, counters,
// and who is waiting for what.
//
// Device completions only queue an ordered extent here; it is finished (committed) by a thread that
// waits for that file anyway, else by the finishing thread, never by the device's.
#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "base/sync.h"
#include "data/damage_list.h"
#include "data/file_data.h"
#include "data/page.h"
#include "data/page_pool.h"
#include "data/sharing.h"

namespace stablefs {

class FileImpl;
struct OrderedIo;

// A file's place in the lists of its context. All but `users` and `listed` is guarded by the
// context's mutex and touched by the context only.
struct FileSchedule {
  explicit FileSchedule(FileImpl& owner) : file(owner) {}

  FileImpl& file;
  // Threads at work on the file from the outside, and ordered extents under way: it must not go.
  std::atomic<uint32_t> users{0};
  std::atomic<bool> listed{false};  // in dirty_files_
  bool registered = false;          // in files_
  bool finish_queued = false;       // in finish_files_
  uint64_t due_ns = 0;              // when the writeback thread should look at it
  bool retry = false;               // due_ns is not to be anticipated
  std::list<FileSchedule*>::iterator dirty_position;
  std::list<FileSchedule*>::iterator file_position;
  std::deque<OrderedIo*> completed;  // by the device, to be finished
  uint64_t progress = 0;             // counts what waiters of this file may wait for
  uint32_t waiters = 0;
  CondVar changed;
};

class ContextImpl final : public DataContext {
 public:
  ContextImpl(Store& store, BlockDevice& device, const DataOptions& options);
  ~ContextImpl() override;

  std::unique_ptr<FileData> open(InodeState& inode) override;
  Status sync_all() override;
  void stop() override;
  void abandon() override;
  StableControl& stable() override { return stable_; }
  const DataCounters& counters() const override { return counters_; }
  DataGauges gauges() override;
  DamageList& damage() override { return damage_; }
  std::vector<InFlight> in_flight(size_t limit) override;
  Sharing& sharing() { return sharing_; }

  Store& store() { return store_; }
  BlockDevice& device() { return device_; }
  const DataOptions& options() const { return options_; }
  DataCounters& count() { return counters_; }
  Health& health() { return health_; }
  PagePool& page_pool() { return *page_pool_; }
  bool abandoned() const { return abandoned_.load(std::memory_order_acquire); }
  // Nothing may be written any more: stopped or abandoned.
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  // A page went from one state to another.
  void account(PageState from, PageState to);
  uint64_t shadow_bytes() const {
    return shadow_pages_.load(std::memory_order_relaxed) * kBlockSize;
  }
  uint64_t now_ns() { return options_.clock->monotonic_ns(); }
  void ordered_started() { ordered_in_flight_.fetch_add(1, std::memory_order_relaxed); }
  void ordered_ended() { ordered_in_flight_.fetch_sub(1, std::memory_order_relaxed); }

  // Direct writes count as in flight, and their file has to be found when all is abandoned.
  void direct_started(FileSchedule& schedule, uint64_t blocks);
  void direct_ended(uint64_t blocks);
  uint64_t direct_in_flight() const { return direct_in_flight_.load(std::memory_order_relaxed); }

  // --- scheduling of files
  void mark_dirty(FileSchedule& schedule);   // has dirty pages: written back after the delay
  void retry_later(FileSchedule& schedule);  // dirty pages were left because a ticket held them
  void hasten(FileSchedule& schedule);       // somebody waits whom the writeback thread can help
  void note_clean(FileSchedule& schedule);   // has clean pages worth evicting
  void pin(FileSchedule& schedule) { schedule.users.fetch_add(1, std::memory_order_relaxed); }
  void unpin(FileSchedule& schedule);
  void remove_file(FileSchedule& schedule);  // waits until nobody else is at work on it

  // --- ordered extents on their way back
  void completed(FileSchedule& schedule, OrderedIo& io);
  OrderedIo* take_completed(FileSchedule& schedule);
  void made_progress(FileSchedule& schedule);
  uint64_t progress(FileSchedule& schedule);
  // Until something completed or progress is no longer `seen`; shut_down when abandoned.
  Status wait(FileSchedule& schedule, uint64_t seen);

  // Waits while more than the limit is dirty or in flight; refuses when as much is lost and still
  // in memory. Nothing may be held.
  Status throttle();
  // Has dirty pages written back and waits until some are, or for a moment. False when there is
  // nothing to wait for.
  bool relieve();

 private:
  void list_dirty(FileSchedule& schedule, uint64_t due_ns, bool retry) FS_REQUIRES(mutex_);
  void enlist(FileSchedule& schedule) FS_REQUIRES(mutex_);
  FileSchedule* next_due(uint64_t& wait_until_ns) FS_REQUIRES(mutex_);
  void unpin_locked(FileSchedule& schedule) FS_REQUIRES(mutex_);
  std::vector<FileSchedule*> pin_files() FS_EXCLUDES(mutex_);
  void finish_held() FS_EXCLUDES(mutex_);
  bool urgent() const;
  bool above_limit() const;
  void write_back_thread();
  void finish_thread();
  void evict();

  Store& store_;
  BlockDevice& device_;
  const DataOptions options_;
  const std::unique_ptr<Health> own_health_;  // when the options bring none
  Health& health_;
  const std::shared_ptr<PagePool> page_pool_ = std::make_shared<PagePool>();
  StableControl stable_;
  Sharing sharing_;
  DamageList damage_;
  DataCounters counters_;
  std::atomic<uint64_t> dirty_pages_{0}, flight_pages_{0}, clean_pages_{0}, shadow_pages_{0},
      lost_pages_{0};
  std::atomic<uint64_t> ordered_in_flight_{0};
  std::atomic<uint64_t> direct_in_flight_{0}, direct_pages_{0};
  std::atomic<bool> abandoned_{false};
  std::atomic<bool> closed_{false};

  Mutex mutex_{LockRank::writeback, "writeback lists"};
  CondVar work_;      // for the writeback thread
  CondVar finish_;    // for the finishing thread
  CondVar throttle_;  // fewer dirty pages
  CondVar unpinned_;
  std::list<FileSchedule*> files_ FS_GUARDED_BY(mutex_);        // had pages lately
  std::list<FileSchedule*> dirty_files_ FS_GUARDED_BY(mutex_);  // roughly the oldest first
  std::deque<FileSchedule*> finish_files_ FS_GUARDED_BY(mutex_);
  uint64_t throttled_ FS_GUARDED_BY(mutex_) = 0;
  bool stop_writeback_ FS_GUARDED_BY(mutex_) = false;
  bool stop_finishing_ FS_GUARDED_BY(mutex_) = false;
  Thread writeback_thread_;
  Thread finish_thread_;
};

}  // namespace stablefs
