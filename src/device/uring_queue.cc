// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/uring_queue.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>

#include "base/assert.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STABLEFS_TSAN
#endif
#elif defined(__SANITIZE_THREAD__)
#define STABLEFS_TSAN
#endif

#ifdef STABLEFS_TSAN
// liburing maps and unmaps its rings by raw system calls that the sanitizer does not see: a new
// ring at the address of an old one looks like a race between their threads.
extern "C" const char* __tsan_default_suppressions() {
  return "race:io_uring_\n";
}
#endif

namespace stablefs {
namespace {

constexpr uint64_t kWakeTag = ~uint64_t{0};
constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 30;  // the kernel's limit is below 2 GiB
constexpr int kMaxTransientRetries = 100;
constexpr int kMaxFailedSubmits = 5000;  // of 1 ms each
constexpr int kWaitsAfterAbort = 20;     // of 100 ms each

void sleep_ms(long milliseconds) {
  const timespec delay{0, milliseconds * 1'000'000};
  nanosleep(&delay, nullptr);
}

}  // namespace

UringQueue::UringQueue(int fd, Finish finish)
    : fd_(fd), finish_(std::move(finish)), wake_fd_(eventfd(0, EFD_CLOEXEC)), slots_(kSlots) {
  for (uint32_t i = kSlots; i > 0; --i) free_slots_.push_back(i - 1);
}

Result<std::unique_ptr<UringQueue>> UringQueue::create(int fd, Finish finish) {
  std::unique_ptr<UringQueue> queue(new UringQueue(fd, std::move(finish)));
  int error = EMFILE;
  if (queue->wake_fd_.valid()) {
    queue->thread_ = Thread("io_uring", [q = queue.get()] { q->work(); });
    error = queue->wait_until_ready();
  }
  if (error != 0) {
    return Error(ErrorCode::device_setup, "io_uring: " + std::system_category().message(error));
  }
  return queue;
}

int UringQueue::wait_until_ready() {
  MutexLock lock(mutex_);
  while (!ready_) ready_changed_.wait(mutex_);
  return setup_errno_;
}

UringQueue::~UringQueue() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake();
  }
  if (thread_.joinable()) thread_.join();
}

void UringQueue::wake() {
  if (!sleeping_) return;
  sleeping_ = false;
  const uint64_t one = 1;
  // Cannot fail or block: the counter is at most 1, because only a sleeper is woken.
  [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof one);
}

bool UringQueue::submit(std::span<DeviceRequest* const> requests) {
  MutexLock lock(mutex_);
  if (aborted_) return false;
  queue_.insert(queue_.end(), requests.begin(), requests.end());
  wake();
  return true;
}

void UringQueue::abort() {
  MutexLock lock(mutex_);
  aborted_ = true;
  wake();
}

int UringQueue::set_up_ring() {
  // Completions are then delivered when this thread asks for them, without interrupting it.
  const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  if (io_uring_queue_init(kSlots + 1, &ring_, flags) == 0) return 0;
  return -io_uring_queue_init(kSlots + 1, &ring_, 0);  // kernels before 6.1
}

void UringQueue::work() {
  const int error = set_up_ring();
  {
    MutexLock lock(mutex_);
    ready_ = true;
    setup_errno_ = error;
    ready_changed_.notify_all();
  }
  if (error != 0) return;
  arm_wake();
  while (take_work()) {
    for (uint32_t index : to_start_) start(index);
    to_start_.clear();
    submit_and_wait();
    reap();
  }
  give_up_all();
  await_returns();
  io_uring_queue_exit(&ring_);
}

// Moves queued requests into free slots. False when the thread has to end: stopped with nothing
// left, or aborted.
bool UringQueue::take_work() {
  MutexLock lock(mutex_);
  if (aborted_) return false;
  while (!queue_.empty() && !free_slots_.empty()) {
    const uint32_t index = free_slots_.back();
    free_slots_.pop_back();
    slots_[index].request = queue_.front();
    queue_.pop_front();
    to_start_.push_back(index);
  }
  sleeping_ = queue_.empty();
  const bool idle = free_slots_.size() == kSlots;
  return !(stopping_ && idle);
}

// From here on nothing is submitted: an entry left in the ring would name memory that is no longer
// ours.
void UringQueue::give_up_all() {
  std::deque<DeviceRequest*> failed;
  for (Slot& slot : slots_) {
    if (slot.request != nullptr) failed.push_back(std::exchange(slot.request, nullptr));
  }
  free_slots_.insert(free_slots_.end(), to_start_.begin(), to_start_.end());
  to_start_.clear();
  {
    MutexLock lock(mutex_);
    failed.insert(failed.end(), queue_.begin(), queue_.end());
    queue_.clear();
  }
  for (DeviceRequest* request : failed) finish_(*request, ErrorCode::device_aborted, 0);
}

// A hung device may never return what it was given, so this does not wait for ever.
void UringQueue::await_returns() {
  for (int i = 0; i < kWaitsAfterAbort && free_slots_.size() < kSlots; ++i) {
    io_uring_cqe* cqe = nullptr;
    __kernel_timespec timeout{0, 100'000'000};
    io_uring_wait_cqe_timeout(&ring_, &cqe, &timeout);
    reap();
  }
}

void UringQueue::start(uint32_t index) {
  Slot& slot = slots_[index];
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  FS_ASSERT(sqe != nullptr);  // the ring has an entry for every slot and the wake-up
  if (slot.request->op == DeviceOp::flush) {
    io_uring_prep_fsync(sqe, fd_, IORING_FSYNC_DATASYNC);
  } else {
    prepare_transfer(*sqe, slot);
  }
  io_uring_sqe_set_data64(sqe, index);
}

void UringQueue::prepare_transfer(io_uring_sqe& sqe, Slot& slot) {
  const DeviceRequest& request = *slot.request;
  FS_ASSERT(request.op == DeviceOp::read || request.op == DeviceOp::write);
  const uint64_t offset_bytes = request.lba.value * kBlockSize + slot.bytes_done;
  std::span<const iovec> parts = request.memory;
  if (slot.bytes_done > 0) {
    slot.rest = slice_memory(request.memory, slot.bytes_done,
                             request.length_blocks * kBlockSize - slot.bytes_done);
    parts = slot.rest;
  }
  const auto count = static_cast<unsigned>(std::min<size_t>(parts.size(), IOV_MAX));
  if (count == 1) {
    const auto length = static_cast<unsigned>(std::min(parts[0].iov_len, kMaxTransferBytes));
    if (request.op == DeviceOp::read) {
      io_uring_prep_read(&sqe, fd_, parts[0].iov_base, length, offset_bytes);
    } else {
      io_uring_prep_write(&sqe, fd_, parts[0].iov_base, length, offset_bytes);
    }
  } else if (request.op == DeviceOp::read) {
    io_uring_prep_readv(&sqe, fd_, parts.data(), count, offset_bytes);
  } else {
    io_uring_prep_writev(&sqe, fd_, parts.data(), count, offset_bytes);
  }
  if (request.op == DeviceOp::write && request.fua) sqe.rw_flags = RWF_DSYNC;
}

void UringQueue::arm_wake() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  FS_ASSERT(sqe != nullptr);
  io_uring_prep_read(sqe, wake_fd_.get(), &wake_value_, sizeof wake_value_, 0);
  io_uring_sqe_set_data64(sqe, kWakeTag);
}

void UringQueue::submit_and_wait() {
  const int result = io_uring_submit_and_wait(&ring_, 1);
  if (result >= 0 || result == -EINTR) {
    failed_submits_ = 0;
    return;
  }
  // Out of memory, most likely. The entries stay in the ring and are submitted the next time.
  if (++failed_submits_ > kMaxFailedSubmits) abort();
  sleep_ms(1);
}

void UringQueue::reap() {
  {
    MutexLock lock(mutex_);
    sleeping_ = false;
  }
  io_uring_cqe* cqes[64];
  while (const unsigned count = io_uring_peek_batch_cqe(&ring_, cqes, std::size(cqes))) {
    for (unsigned i = 0; i < count; ++i) {
      const uint64_t tag = io_uring_cqe_get_data64(cqes[i]);
      if (tag == kWakeTag) {
        arm_wake();
      } else {
        handle(static_cast<uint32_t>(tag), cqes[i]->res);
      }
    }
    io_uring_cq_advance(&ring_, count);
  }
}

void UringQueue::handle(uint32_t index, int result) {
  Slot& slot = slots_[index];
  if (slot.request == nullptr) {  // abort() has completed it
    free_slots_.push_back(index);
    return;
  }
  const DeviceRequest& request = *slot.request;
  const bool transient = result == -EINTR || result == -EAGAIN;
  if (transient && request.op != DeviceOp::flush && ++slot.retries <= kMaxTransientRetries) {
    to_start_.push_back(index);
    return;
  }
  if (result < 0) {
    finish_slot(index, device_error(request, -result));
    return;
  }
  slot.bytes_done += static_cast<uint64_t>(result);
  const bool complete = slot.bytes_done >= request.length_blocks * kBlockSize;
  const bool stuck = result == 0;  // reported as a short completion
  if (request.op == DeviceOp::flush || complete || stuck) {
    finish_slot(index, {});
  } else {
    to_start_.push_back(index);
  }
}

void UringQueue::finish_slot(uint32_t index, Status status) {
  Slot& slot = slots_[index];
  DeviceRequest& request = *slot.request;
  const uint64_t blocks_done = slot.bytes_done / kBlockSize;
  slot = Slot();
  free_slots_.push_back(index);
  finish_(request, std::move(status), blocks_done);
}

}  // namespace stablefs
