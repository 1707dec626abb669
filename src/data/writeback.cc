// SPDX-License-Identifier: GPL-2.0-or-later
// From dirty pages to writes on the device: gather a run, seal it, give it blocks and guards, send
// it. And waiting for that.
#include <algorithm>

#include "data/file_impl.h"

namespace stablefs {

void FileImpl::submit_dirty() {
  if (submit_range(0, kNoLimit, kNoLimit).blocked) context_.retry_later(schedule);
}

FileImpl::Submitted FileImpl::submit_range(uint64_t first, uint64_t end, uint64_t stamp_limit,
                                           const OwnedBlocks& owned) {
  Submitted result;
  while (first < end && !context_.closed()) {
    uint64_t run_end = 0;
    {
      MutexLock lock(mutex_);
      const auto next = pages_.next(first, PageStates{PageState::dirty});
      if (!next || *next >= end) break;
      first = *next;
      run_end = dirty_run(first, end, stamp_limit);
    }
    if (run_end == first) {  // dirtied too late for us
      ++first;
      continue;
    }
    run_end = owned.same_until(first, run_end);
    RangeTicket ticket(ranges_);
    if (!owned.has(first)) {
      // Of a run that is blocked in part what is below must go: the rest may be waiting for it.
      const uint64_t next_byte =
          ticket.try_acquire_start(RangeClass::submit, first * kBlockSize, run_end * kBlockSize);
      const uint64_t next = next_byte / kBlockSize;
      result.blocked |= !ticket.held() || next < run_end;
      if (!ticket.held()) {
        first = next;
        continue;
      }
      run_end = next;
    }
    OrderedIo* io = take_run(first, run_end, stamp_limit);
    // From here on the ordered extent itself keeps others off.
    ticket.release();
    if (io == nullptr) continue;  // no longer dirty: look again
    first = io->extent.end_block();
    result.any = true;
    start(io);
  }
  return result;
}

// Dirty blocks below an ordered extent that is complete hold it up: they go first.
FileImpl::Submitted FileImpl::submit_below_held(const OwnedBlocks& owned) {
  uint64_t first = 0, end = 0;
  {
    MutexLock lock(mutex_);
    if (held_.empty() || tail_.empty()) return {};
    first = *tail_.lowest();
    end = held_.rbegin()->first;
  }
  return submit_range(first, end, kNoLimit, owned);
}

// End of the run of dirty pages that starts at `first`.
uint64_t FileImpl::dirty_run(uint64_t first, uint64_t end, uint64_t stamp_limit) {
  end = std::min(end, first + kMaxOrderedBlocks);
  const bool in_place = in_place_.contains(first);
  uint64_t block = first;
  for (; block < end; ++block) {
    const Page* page = pages_.find(block);
    if (page == nullptr || page->state != PageState::dirty) break;
    if (page->dirty_stamp > stamp_limit) break;
    if (in_place_.contains(block) != in_place) break;  // all with promises, or all without
  }
  return block;
}

OrderedIo* FileImpl::take_run(uint64_t first, uint64_t end, uint64_t stamp_limit) {
  MutexLock lock(mutex_);
  const uint64_t run_end = dirty_run(first, end, stamp_limit);
  if (run_end == first) return nullptr;
  const uint64_t length = run_end - first;
  auto io = std::make_unique<OrderedIo>(OrderedExtent(first, length));
  io->pages.reserve(length);
  for (uint64_t block = first; block < run_end; ++block) {
    Page* page = transition(block, PageEvent::submit);
    io->pages.push_back(page->buffer);
    io->pages.back().seal();
    page->flight_stamp = std::exchange(page->dirty_stamp, 0);
  }
  io->sealed = true;
  io->size_at_seal = size_;
  io->submitted_ns = context_.now_ns();
  if (in_place_.contains(first)) {
    in_place_.erase(first, run_end);
  } else {
    io->space = promised_.split(length);
  }
  context_.count().ordered_created.fetch_add(1, std::memory_order_relaxed);
  return &enter(std::move(io));
}

OrderedIo& FileImpl::enter(std::unique_ptr<OrderedIo> io) {
  context_.pin(schedule);
  context_.ordered_started();
  OrderedIo& entered = *io;
  const bool inserted = ordered_.emplace(entered.extent.first_block(), std::move(io)).second;
  FS_ASSERT(inserted);
  return entered;
}

void FileImpl::start(OrderedIo* io) {
  while (io != nullptr) {
    OrderedIo* rest = nullptr;
    const Status prepared = prepare(*io, rest);
    if (prepared.ok()) {
      io->extent.submit();
      submit_io(*io, 0);
    } else {
      io->status = prepared;
      finish(*io);
    }
    io = rest;
  }
}

// Blocks, journal space, guards. What does not fit into one piece becomes `rest`.
Status FileImpl::prepare(OrderedIo& io, OrderedIo*& rest) {
  const ExtentMap::Cost cost = FS_TRY(
      cost_beside_changes(extents_, inode_, io.extent.first_block(), io.extent.length_blocks()));
  FS_TRY(place(io, cost, rest));
  io.journal_bytes = cost.bytes;
  io.journal = FS_TRY(store_.reserve_journal(cost.bytes));
  guard(io);
  return {};
}

// Unwritten blocks are nobody else's as long as the ordered extent is there, and read as zeros
// until its transaction. A promise that came with the pages is not needed then.
Status FileImpl::place(OrderedIo& io, const ExtentMap::Cost& cost, OrderedIo*& rest) {
  if (cost.unwritten.length_blocks != 0) {
    io.range = cost.unwritten;
    io.in_place = true;
    SpaceReservation unused;
    if (io.space.blocks() != 0) unused = io.space.split(cost.length_blocks);
    if (cost.length_blocks < io.extent.length_blocks()) rest = &split(io, cost.length_blocks);
    return {};
  }
  Lba goal;
  {
    MutexLock lock(mutex_);
    goal = goal_;
  }
  FS_ASSERT(io.space.blocks() == io.extent.length_blocks());
  io.range = FS_TRY(store_.allocate(io.space, cost.length_blocks, goal));
  FS_ASSERT(io.range.length_blocks <= cost.length_blocks);
  if (io.range.length_blocks < io.extent.length_blocks()) {
    rest = &split(io, io.range.length_blocks);
  }
  MutexLock lock(mutex_);
  goal_ = io.range.end();
  return {};
}

OrderedIo& FileImpl::split(OrderedIo& io, uint64_t blocks) {
  MutexLock lock(mutex_);
  auto rest = std::make_unique<OrderedIo>(io.extent.split(blocks));
  const auto cut = io.pages.begin() + static_cast<ptrdiff_t>(blocks);
  rest->pages.assign(std::make_move_iterator(cut), std::make_move_iterator(io.pages.end()));
  io.pages.erase(cut, io.pages.end());
  rest->sealed = true;
  rest->size_at_seal = io.size_at_seal;
  rest->submitted_ns = io.submitted_ns;
  rest->cancelled = io.cancelled;
  rest->space = std::move(io.space);
  rest->direct = io.direct;
  context_.count().ordered_split.fetch_add(1, std::memory_order_relaxed);
  OrderedIo& result = enter(std::move(rest));
  if (result.direct) result.direct->parts.add_behind(io, result);
  return result;
}

// Over the memory that is submitted, after it was sealed (P1).
void FileImpl::guard(OrderedIo& io) {
  uint16_t app_tag = 0;
  {
    MutexLock lock(inode_.mutex);
    app_tag = inode_.attributes.app_tag;
  }
  const Interval interval = store_.interval();
  const uint32_t per_block = tuples_per_block(interval);
  io.tuples.resize(io.pages.size() * per_block);
  io.checksums.resize(io.pages.size());
  for (size_t i = 0; i < io.pages.size(); ++i) {
    FS_ASSERT(io.pages[i].sealed());
    const std::span<const std::byte> page = io.pages[i].bytes();
    if (context_.options().guard) {
      generate_tuples(page, io.range.start + i, interval, app_tag,
                      std::span(io.tuples).subspan(i * per_block, per_block));
    }
    io.checksums[i] = crc32c(0, page);
  }
}

void FileImpl::submit_io(OrderedIo& io, uint64_t skip_blocks) {
  io.memory.clear();
  for (size_t i = skip_blocks; i < io.pages.size(); ++i) {
    const std::span<const std::byte> page = io.pages[i].bytes();
    auto* start = const_cast<std::byte*>(page.data());  // iovec knows no const
    if (!io.memory.empty()) {
      iovec& last = io.memory.back();
      if (static_cast<std::byte*>(last.iov_base) + last.iov_len == start) {
        last.iov_len += page.size();
        continue;
      }
    }
    io.memory.push_back({start, page.size()});
  }
  const Interval interval = store_.interval();
  DeviceRequest& request = io.request;
  request.op = DeviceOp::write;
  request.lba = io.range.start + skip_blocks;
  request.length_blocks = io.range.length_blocks - skip_blocks;
  request.memory = io.memory;
  request.tuples = {};
  if (context_.options().guard) {
    request.tuples = std::span(io.tuples).subspan(skip_blocks * tuples_per_block(interval));
  }
  request.interval = interval;
  request.complete = [this, &io](Status status, uint64_t blocks_done) {
    io.status = std::move(status);
    io.blocks_done = blocks_done;
    context_.completed(schedule, io);
  };
  context_.device().submit(request);
}

// --- waiting

Status FileImpl::write_back() {
  {
    MutexLock lock(mutex_);
    ++write_backs_;
  }
  const Status status = write_back_counted();
  MutexLock lock(mutex_);
  --write_backs_;
  return status;
}

Status FileImpl::write_back_counted() {
  uint64_t stamp = 0;
  bool uncommitted = false;
  {
    MutexLock lock(mutex_);
    uncommitted = pages_.next(0, kUncommittedStates).has_value();
    stamp = stamp_;
  }
  const uint64_t errors = errors_.load();
  if (uncommitted) {
    submit_range(0, kNoLimit, stamp);
    FS_TRY(wait_committed(0, stamp, {}));
  }
  FS_TRY(wait_for_shrinks());
  if (errors_.load() != errors || has_lost_pages()) return ErrorCode::writeback_failed;
  return {};
}

// Without a ticket: what is dirty in the range, and what has to land before that may be mapped.
Status FileImpl::write_back_range(uint64_t first_block, uint64_t end_block) {
  uint64_t stamp = 0;
  {
    MutexLock lock(mutex_);
    if (!uses_cache(first_block, end_block)) return {};
    stamp = stamp_;
  }
  submit_range(first_block, end_block, stamp);
  FS_TRY(wait_committed(first_block, stamp, {}, end_block));
  return wait_ordered(first_block, end_block, {});
}

// Until no page of the range has a write up to `stamp` that is not committed. Pages that
// were done once stay done: later writes have later stamps.
Status FileImpl::wait_committed(uint64_t first_block, uint64_t stamp, const OwnedBlocks& owned,
                                uint64_t end_block) {
  uint64_t at = first_block;
  while (true) {
    const uint64_t seen = context_.progress(schedule);
    finish_completed();
    bool waits_for_submit = false;
    {
      MutexLock lock(mutex_);
      bool done = true;
      while (const auto block = pages_.next(at, kUncommittedStates)) {
        at = *block;
        if (at >= end_block) break;
        const Page* page = pages_.find(at);
        const bool dirty = page->dirty_stamp != 0 && page->dirty_stamp <= stamp;
        const bool in_flight = page->flight_stamp != 0 && page->flight_stamp <= stamp;
        waits_for_submit = dirty && page->state == PageState::dirty;
        done = !dirty && !in_flight;
        if (!done) break;
        ++at;
      }
      if (done) return {};
    }
    if (waits_for_submit && context_.closed()) return ErrorCode::shut_down;
    bool submitted = false;
    if (waits_for_submit) submitted = submit_range(at, end_block, stamp, owned).any;
    submitted |= submit_below_held(owned).any;
    if (!submitted) FS_TRY(context_.wait(schedule, seen));
  }
}

// Until no ordered extent reaches into [first_block, end_block). Our ticket may begin below it:
// what is dirty there nobody else can submit.
Status FileImpl::wait_ordered(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned) {
  while (true) {
    const uint64_t seen = context_.progress(schedule);
    finish_completed();
    {
      MutexLock lock(mutex_);
      // They do not overlap each other, so the last one below the end reaches the furthest.
      const auto behind = ordered_.lower_bound(end_block);
      if (behind == ordered_.begin()) return {};
      if (std::prev(behind)->second->extent.end_block() <= first_block) return {};
    }
    if (!submit_below_held(owned).any) FS_TRY(context_.wait(schedule, seen));
  }
}

}  // namespace stablefs
