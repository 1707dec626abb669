// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "data/context_impl.h"
#include "data/file_impl.h"

namespace stablefs {
namespace {

// How long the writeback thread leaves a file alone whose pages a range ticket held.
constexpr uint64_t kRetryDelayNs = 5 * kNsPerMs;
// How long a write waits for others' pages to be written back before it looks again.
constexpr uint64_t kReliefNs = 50 * kNsPerMs;

}  // namespace

std::unique_ptr<DataContext> DataContext::create(Store& store, BlockDevice& device,
                                                 const DataOptions& options) {
  FS_ASSERT(options.clock != nullptr);
  FS_ASSERT(options.logger != nullptr);
  return std::make_unique<ContextImpl>(store, device, options);
}

ContextImpl::ContextImpl(Store& store, BlockDevice& device, const DataOptions& options)
    : store_(store),
      device_(device),
      options_(options),
      own_health_(options.health != nullptr
                      ? nullptr
                      : std::make_unique<Health>(
                            HealthOptions{.clock = options.clock, .logger = options.logger})),
      health_(options.health != nullptr ? *options.health : *own_health_),
      stable_(options.stable, options.shadow_limit_bytes),
      sharing_(store),
      damage_(store, {options.logger, &health_, options.read_only, &sharing_}) {
  writeback_thread_ = Thread("writeback", [this] { write_back_thread(); });
  finish_thread_ = Thread("finisher", [this] { finish_thread(); });
}

ContextImpl::~ContextImpl() {
  stop();
  MutexLock lock(mutex_);
  FS_ASSERT(files_.empty());
}

std::unique_ptr<FileData> ContextImpl::open(InodeState& inode) {
  return std::make_unique<FileImpl>(*this, inode);
}

void ContextImpl::stop() {
  closed_.store(true, std::memory_order_release);
  {
    MutexLock lock(mutex_);
    stop_writeback_ = true;
    work_.notify_all();
    throttle_.notify_all();
  }
  if (writeback_thread_.joinable()) writeback_thread_.join();
  // Ordered extents under way still need the finishing thread.
  finish_held();
  {
    MutexLock lock(mutex_);
    while (ordered_in_flight_.load() != 0) unpinned_.wait(mutex_);
    stop_finishing_ = true;
    finish_.notify_all();
  }
  if (finish_thread_.joinable()) finish_thread_.join();
}

void ContextImpl::abandon() {
  closed_.store(true, std::memory_order_release);
  abandoned_.store(true, std::memory_order_release);
  {
    MutexLock lock(mutex_);
    stop_writeback_ = true;
    work_.notify_all();
    throttle_.notify_all();
    for (FileSchedule* schedule : files_) {
      // Waiters leave now and finish nothing more.
      schedule->changed.notify_all();
      if (!schedule->completed.empty() && !schedule->finish_queued) {
        schedule->finish_queued = true;
        finish_files_.push_back(schedule);
      }
    }
    finish_.notify_all();
  }
  finish_held();
}

std::vector<FileSchedule*> ContextImpl::pin_files() {
  MutexLock lock(mutex_);
  for (FileSchedule* schedule : files_) pin(*schedule);
  return {files_.begin(), files_.end()};
}

// What is complete but waits for pages below it that nobody writes any more.
void ContextImpl::finish_held() {
  for (FileSchedule* schedule : pin_files()) {
    schedule->file.finish_held();
    unpin(*schedule);
  }
}

DataGauges ContextImpl::gauges() {
  return {.dirty_bytes = dirty_pages_.load() * kBlockSize,
          .writeback_bytes = flight_pages_.load() * kBlockSize,
          .clean_bytes = clean_pages_.load() * kBlockSize,
          .shadow_bytes = shadow_pages_.load() * kBlockSize,
          .lost_bytes = lost_pages_.load() * kBlockSize,
          .ordered_in_flight = ordered_in_flight_.load(),
          .direct_bytes = direct_pages_.load() * kBlockSize,
          .damage_entries = damage_.size()};
}

std::vector<InFlight> ContextImpl::in_flight(size_t limit) {
  std::vector<InFlight> all;
  for (FileSchedule* schedule : pin_files()) {
    schedule->file.list_in_flight(all);
    unpin(*schedule);
  }
  std::ranges::sort(all, std::greater<>(), &InFlight::age_ns);
  if (all.size() > limit) all.resize(limit);
  return all;
}

void ContextImpl::account(PageState from, PageState to) {
  const auto move = [](std::atomic<uint64_t>& counter, bool before, bool after) {
    if (before == after) return;
    counter.fetch_add(after ? 1 : ~0ull, std::memory_order_relaxed);
  };
  move(dirty_pages_, page_is_dirty(from), page_is_dirty(to));
  move(flight_pages_, page_in_flight(from), page_in_flight(to));
  move(clean_pages_, from == PageState::clean, to == PageState::clean);
  move(lost_pages_, from == PageState::write_failed, to == PageState::write_failed);
  move(shadow_pages_, from == PageState::writeback_dirty, to == PageState::writeback_dirty);
}

bool ContextImpl::urgent() const {
  return dirty_pages_.load(std::memory_order_relaxed) * kBlockSize * 2 > options_.dirty_limit_bytes;
}

bool ContextImpl::above_limit() const {
  const uint64_t pages = dirty_pages_.load() + flight_pages_.load() + direct_pages_.load();
  return pages * kBlockSize > options_.dirty_limit_bytes;
}

void ContextImpl::direct_started(FileSchedule& schedule, uint64_t blocks) {
  direct_in_flight_.fetch_add(1, std::memory_order_relaxed);
  direct_pages_.fetch_add(blocks, std::memory_order_relaxed);
  counters_.direct_writes.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  enlist(schedule);
}

void ContextImpl::direct_ended(uint64_t blocks) {
  direct_in_flight_.fetch_sub(1, std::memory_order_relaxed);
  direct_pages_.fetch_sub(blocks, std::memory_order_relaxed);
}

// --- scheduling of files

void ContextImpl::enlist(FileSchedule& schedule) {
  if (schedule.registered) return;
  schedule.registered = true;
  schedule.file_position = files_.insert(files_.end(), &schedule);
}

void ContextImpl::list_dirty(FileSchedule& schedule, uint64_t due_ns, bool retry) {
  enlist(schedule);
  if (schedule.listed) return;
  schedule.listed = true;
  schedule.due_ns = due_ns;
  schedule.retry = retry;
  schedule.dirty_position = dirty_files_.insert(dirty_files_.end(), &schedule);
  if (dirty_files_.size() == 1) work_.notify_one();
}

void ContextImpl::mark_dirty(FileSchedule& schedule) {
  // The page was dirtied before this look: a thread that takes the file off the list finds it.
  if (schedule.listed.load()) {
    if (!urgent()) return;
    MutexLock lock(mutex_);
    work_.notify_one();
    return;
  }
  const uint64_t due_ns = options_.clock->monotonic_ns() + options_.writeback_delay_ns;
  MutexLock lock(mutex_);
  list_dirty(schedule, due_ns, false);
  if (urgent()) work_.notify_one();
}

void ContextImpl::retry_later(FileSchedule& schedule) {
  const uint64_t due_ns = options_.clock->monotonic_ns() + kRetryDelayNs;
  MutexLock lock(mutex_);
  list_dirty(schedule, due_ns, true);
}

void ContextImpl::hasten(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  enlist(schedule);
  if (schedule.listed) {
    dirty_files_.erase(schedule.dirty_position);
    schedule.listed = false;
  }
  schedule.due_ns = options_.clock->monotonic_ns();
  schedule.retry = false;
  schedule.listed = true;
  schedule.dirty_position = dirty_files_.insert(dirty_files_.begin(), &schedule);
  work_.notify_one();
}

void ContextImpl::note_clean(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  enlist(schedule);
  if (clean_pages_.load() * kBlockSize > options_.clean_limit_bytes) work_.notify_one();
}

void ContextImpl::unpin_locked(FileSchedule& schedule) {
  const uint32_t before = schedule.users.fetch_sub(1);
  FS_ASSERT(before != 0);
  if (before == 1) unpinned_.notify_all();
}

void ContextImpl::unpin(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  unpin_locked(schedule);
}

void ContextImpl::remove_file(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  while (true) {
    if (schedule.listed) {
      dirty_files_.erase(schedule.dirty_position);
      schedule.listed = false;
    }
    if (schedule.users.load() == 0) break;
    unpinned_.wait(mutex_);
  }
  FS_ASSERT(schedule.completed.empty());
  FS_ASSERT(schedule.waiters == 0);
  if (schedule.finish_queued) std::erase(finish_files_, &schedule);
  if (schedule.registered) files_.erase(schedule.file_position);
}

// --- ordered extents on their way back

void ContextImpl::completed(FileSchedule& schedule, OrderedIo& io) {
  // On the device's thread: the last touch of the file is before the unlock, it may go right after.
  MutexLock lock(mutex_);
  schedule.completed.push_back(&io);
  if (schedule.waiters > 0 && !abandoned()) {
    schedule.changed.notify_all();
  } else if (!schedule.finish_queued) {
    schedule.finish_queued = true;
    finish_files_.push_back(&schedule);
    finish_.notify_one();
  }
}

OrderedIo* ContextImpl::take_completed(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  if (schedule.completed.empty()) return nullptr;
  OrderedIo* io = schedule.completed.front();
  schedule.completed.pop_front();
  return io;
}

void ContextImpl::made_progress(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  ++schedule.progress;
  if (schedule.waiters > 0) schedule.changed.notify_all();
  if (throttled_ > 0) throttle_.notify_all();
}

uint64_t ContextImpl::progress(FileSchedule& schedule) {
  MutexLock lock(mutex_);
  return schedule.progress;
}

Status ContextImpl::wait(FileSchedule& schedule, uint64_t seen) {
  MutexLock lock(mutex_);
  while (schedule.completed.empty() && schedule.progress == seen) {
    if (abandoned()) return ErrorCode::shut_down;
    ++schedule.waiters;
    schedule.changed.wait(mutex_);
    --schedule.waiters;
  }
  if (abandoned()) return ErrorCode::shut_down;
  return {};
}

Status ContextImpl::throttle() {
  if (closed()) return ErrorCode::shut_down;
  if (lost_pages_.load() * kBlockSize > options_.dirty_limit_bytes) {
    return Error(ErrorCode::writeback_failed, "memory is full of data that the device refused");
  }
  if (!above_limit()) return {};
  counters_.throttle_waits.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  ++throttled_;
  while (above_limit() && !closed()) {
    work_.notify_one();
    throttle_.wait(mutex_);
  }
  --throttled_;
  if (closed()) return ErrorCode::shut_down;
  return {};
}

bool ContextImpl::relieve() {
  if (closed() || dirty_pages_.load() + flight_pages_.load() == 0) return false;
  const uint64_t until_ns = options_.clock->monotonic_ns() + kReliefNs;
  MutexLock lock(mutex_);
  ++throttled_;
  work_.notify_one();
  throttle_.wait_until(mutex_, *options_.clock, until_ns);
  --throttled_;
  return !closed();
}

// --- threads

FileSchedule* ContextImpl::next_due(uint64_t& wait_until_ns) {
  const uint64_t now_ns = options_.clock->monotonic_ns();
  const bool hurry = urgent() || throttled_ > 0;
  wait_until_ns = ~0ull;
  for (FileSchedule* schedule : dirty_files_) {
    if (schedule->due_ns <= now_ns || (hurry && !schedule->retry)) return schedule;
    wait_until_ns = std::min(wait_until_ns, schedule->due_ns);
    // The others are due later; only those put back for a moment break the order.
    if (!schedule->retry) break;
  }
  return nullptr;
}

void ContextImpl::write_back_thread() {
  MutexLock lock(mutex_);
  while (!stop_writeback_) {
    if (clean_pages_.load() * kBlockSize > options_.clean_limit_bytes) {
      lock.unlock();
      evict();
      lock.lock();
      if (stop_writeback_) break;
    }
    uint64_t wait_until_ns = 0;
    FileSchedule* schedule = next_due(wait_until_ns);
    if (schedule == nullptr) {
      if (wait_until_ns == ~0ull) {
        work_.wait(mutex_);
      } else {
        work_.wait_until(mutex_, *options_.clock, wait_until_ns);
      }
      continue;
    }
    dirty_files_.erase(schedule->dirty_position);
    schedule->listed = false;
    pin(*schedule);
    lock.unlock();
    schedule->file.submit_dirty();
    lock.lock();
    unpin_locked(*schedule);
  }
}

void ContextImpl::finish_thread() {
  MutexLock lock(mutex_);
  while (true) {
    if (finish_files_.empty()) {
      if (stop_finishing_) return;
      finish_.wait(mutex_);
      continue;
    }
    FileSchedule* schedule = finish_files_.front();
    finish_files_.pop_front();
    schedule->finish_queued = false;
    pin(*schedule);
    while (!schedule->completed.empty()) {
      OrderedIo* io = schedule->completed.front();
      schedule->completed.pop_front();
      lock.unlock();
      schedule->file.finish(*io);
      lock.lock();
    }
    unpin_locked(*schedule);
  }
}

// Second chance, file by file: pages used since the last round stay in the first pass.
void ContextImpl::evict() {
  const uint64_t target_pages = options_.clean_limit_bytes / kBlockSize / 8 * 7;
  for (int pass = 0; pass < 2; ++pass) {
    const std::vector<FileSchedule*> files = pin_files();
    for (FileSchedule* schedule : files) {
      if (clean_pages_.load() > target_pages) schedule->file.evict(pass == 1);
    }
    MutexLock lock(mutex_);
    for (FileSchedule* schedule : files) unpin_locked(*schedule);
    if (clean_pages_.load() <= target_pages) return;
  }
}

Status ContextImpl::sync_all() {
  const std::vector<FileSchedule*> files = pin_files();
  for (FileSchedule* schedule : files) schedule->file.submit_dirty();
  Status result;
  for (FileSchedule* schedule : files) {
    const Status status = schedule->file.write_back();
    if (!status.ok() && result.ok()) result = status;
  }
  MutexLock lock(mutex_);
  for (FileSchedule* schedule : files) {
    // Whoever dirties a page lists the file after that, so an idle one can go from the list.
    if (schedule->users.load() == 1 && !schedule->listed && schedule->file.idle()) {
      files_.erase(schedule->file_position);
      schedule->registered = false;
    }
    unpin_locked(*schedule);
  }
  return result;
}

}  // namespace stablefs
