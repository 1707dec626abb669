// SPDX-License-Identifier: GPL-2.0-or-later
// Writing into the cache: whole pages are adopted or copied once, partial ones merged with what was
// there. Every page that becomes dirty brings the promise of a block.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "data/page_write.h"

namespace stablefs {
namespace {

constexpr int kTransitTries = 20;

}  // namespace

BufferSlice FileImpl::copy_of_page(const PageWrite& job, uint64_t block, const Page& old) {
  BufferSlice fresh = context_.page_pool().take();
  std::memcpy(fresh.writable().data(), old.buffer.bytes().data(), kBlockSize);
  job.copy_into(fresh.writable(), block);
  return fresh;
}

Result<uint64_t> FileImpl::write(uint64_t offset, const BufferSlice& payload,
                                 std::optional<Timestamp> now) {
  if (payload.size() == 0) return uint64_t{0};
  if (offset > kMaxFileBytes || payload.size() > kMaxFileBytes - offset) {
    return ErrorCode::file_too_large;
  }
  FS_TRY(context_.health().check(Activity::change));
  FS_TRY(context_.throttle());

  PageWrite job;
  job.offset = job.written_end = offset;
  job.end = offset + payload.size();
  job.data = payload.bytes();
  // Into the page's own memory, as likely as not, when that may be overwritten in flight.
  const bool adopt = payload.size() >= kAdoptBytes;
  if (adopt || context_.stable().policy() != StablePolicy::off) {
    stage_whole_pages(job, payload, adopt);
  }

  RangeTicket ticket(ranges_);
  acquire_range(ticket, RangeClass::write, job.offset, job.end, true);
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  if (offset / kBlockSize > size / kBlockSize) FS_TRY(zero_edge());
  const Status status = write_pages(job);
  const uint64_t written = job.written_end - offset;
  if (written > 0) {
    MutexLock lock(inode_.mutex);
    InodeAttributes& attributes = inode_.attributes;
    attributes.size_bytes = std::max(attributes.size_bytes, job.written_end);
    if (now) attributes.modify_time = attributes.change_time = *now;
    inode_.item_dirty = true;
  }
  ticket.release();
  context_.mark_dirty(schedule);
  if (context_.options().writeback_delay_ns == 0) {
    submit_range(offset / kBlockSize, job.end_block(), kNoLimit);
  }
  if (!status.ok()) context_.count().write_errors.fetch_add(1, std::memory_order_relaxed);
  if (written == 0) return status.error();
  DataCounters& counters = context_.count();
  counters.writes.fetch_add(1, std::memory_order_relaxed);
  counters.written_bytes.fetch_add(written, std::memory_order_relaxed);
  return written;
}

void FileImpl::stage_whole_pages(PageWrite& job, const BufferSlice& payload, bool adopt) {
  const uint64_t first = round_up(job.offset), end = round_down(job.end);
  if (first >= end) return;
  job.whole_first = first / kBlockSize;
  job.whole_end = end / kBlockSize;
  const BufferSlice pages = payload.slice(first - job.offset, end - first);
  DataCounters& counters = context_.count();
  if (adopt && pages.page_aligned()) {
    job.whole = pages;
    counters.pages_adopted.fetch_add(job.whole_end - job.whole_first, std::memory_order_relaxed);
    return;
  }
  job.whole = end - first == kBlockSize ? context_.page_pool().take() : BufferSlice(end - first);
  std::memcpy(job.whole.writable().data(), pages.bytes().data(), end - first);
  counters.pages_copied.fetch_add(job.whole_end - job.whole_first, std::memory_order_relaxed);
}

// Whoever may move the end of the file owns everything from there on, so the size that decides
// which bytes that are is looked at again once the ticket is there.
OwnedBlocks FileImpl::acquire_range(RangeTicket& ticket, RangeClass range_class, uint64_t offset,
                                    uint64_t end, bool may_extend) {
  while (true) {
    uint64_t size = 0;
    {
      MutexLock lock(mutex_);
      size = size_;
    }
    const bool extends = may_extend && end > size;
    const uint64_t first = round_down(extends ? std::min(offset, size) : offset);
    ticket.acquire(range_class, first, extends ? kNoLimit : round_up(end));
    const OwnedBlocks owned{first / kBlockSize, extends ? kNoLimit : blocks_for_bytes(end)};
    {
      MutexLock lock(mutex_);
      if (!may_extend || end <= size_) return owned;
      if (extends && round_down(size_) >= first) return owned;
    }
    release(ticket);
  }
}

// Before the file grows beyond the block its end is in: what lies behind the end in that block must
// be zero on the device too, and arrive there before the size does.
Status FileImpl::zero_edge() {
  PageWrite job;
  job.extends = false;
  bool on_device_only = false;
  {
    MutexLock lock(mutex_);
    if (size_ % kBlockSize == 0) return {};
    job.offset = job.written_end = size_;
    job.end = round_up(size_);
    const uint64_t block = job.first_block();
    while (pages_.state(block) == PageState::reading) pages_changed_.wait(mutex_);
    const PageState state = pages_.state(block);
    if (kUncommittedStates.has(state)) {
      tail_.insert(block, block + 1);  // zero there already, and on its way
      return {};
    }
    on_device_only = state == PageState::absent || state == PageState::clean;
  }
  if (on_device_only && FS_TRY(extents_.run_at(job.first_block())).kind != RunKind::written) {
    return {};
  }
  FS_TRY(write_pages(job));
  context_.mark_dirty(schedule);
  return {};
}

Status FileImpl::write_zeros(uint64_t offset, uint64_t end, const OwnedBlocks& owned) {
  PageWrite job;
  job.offset = job.written_end = offset;
  job.end = end;
  job.owned = owned;
  return write_pages(job);
}

// The same bytes again, to blocks of their own.
Status FileImpl::rewrite(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned) {
  PageWrite job;
  {
    MutexLock lock(mutex_);
    job.offset = job.written_end = first_block * kBlockSize;
    job.end = std::min(end_block * kBlockSize, size_);
  }
  if (job.offset >= job.end) return {};
  BufferSlice buffer(round_up(job.end) - job.offset);
  const std::span<std::byte> bytes = buffer.writable().first(job.end - job.offset);
  std::vector<Missing> missing;
  copy_cached(job.offset, bytes, false, missing);
  if (!missing.empty()) FS_TRY(read_missing(job.offset, bytes, missing));
  job.data = bytes;
  job.owned = owned;
  return write_pages(job);
}

Status FileImpl::write_pages(PageWrite& job) {
  MutexLock lock(mutex_);
  uint64_t block = job.first_block();
  while (block < job.end_block()) {
    const PageState state = pages_.state(block);
    const bool covers = job.covers(block, size_);
    if (job.needs_promise(block, state) && job.promise.blocks() == 0) {
      const uint64_t wanted = count_not_dirty(block, job.end_block());
      lock.unlock();
      auto promised = promise(block, wanted);
      lock.lock();
      if (!promised.ok()) return promised.error();
      job.promise = std::move(promised->space);
      job.in_place_end = std::max(job.in_place_end, promised->in_place_end);
    } else if (state == PageState::reading && !covers) {
      pages_changed_.wait(mutex_);
    } else if (state == PageState::absent && !covers) {
      const uint64_t id = next_read_id_.fetch_add(1);
      transition(block, PageEvent::read_start)->read_id = id;
      lock.unlock();
      const Result<BufferSlice> base = read_base(block);
      end_reading({block, block + 1, id}, base.ok() ? &base.value() : nullptr);
      lock.lock();
      if (!base.ok()) return base.error();
    } else if (const auto action = choose_rewrite(block, covers); action == RewriteAction::wait) {
      lock.unlock();
      FS_TRY(wait_for_landing(block, job.owned));
      lock.lock();
    } else {
      install(job, block, action);
      ++block;
    }
  }
  return {};
}

uint64_t FileImpl::count_not_dirty(uint64_t block, uint64_t end_block) {
  uint64_t count = 0;
  for (; block < end_block; ++block) count += !page_is_dirty(pages_.state(block));
  return count;
}

// As much as there is: a write may end short. What replaces written blocks still fits when nothing
// else does, and what goes into unwritten ones has its space.
Result<FileImpl::Promise> FileImpl::promise(uint64_t block, uint64_t blocks) {
  while (true) {
    auto reserved = store_.reserve_space(blocks, SpaceUse::growth);
    if (reserved.ok()) return Promise{.space = std::move(reserved).value()};
    if (reserved.error().code() != ErrorCode::no_space) return reserved.error();
    const Below below = FS_TRY(look_below(block, blocks));
    if (below.unwritten > 0) return Promise{.space = {}, .in_place_end = block + below.unwritten};
    if (below.written > 0) return Promise{.space = FS_TRY(reserve_overwrite(below.written))};
    if (blocks == 1) return reserved.error();
    blocks /= 2;
  }
}

// Of fewer blocks perhaps. The transit reserve may be promised to dirty pages, ours too: once those
// are written back, what they replaced is free. Bounded, because others may take what comes free.
Result<SpaceReservation> FileImpl::reserve_overwrite(uint64_t blocks) {
  for (int attempt = 0;; ++attempt) {
    auto reserved = store_.reserve_space(blocks, SpaceUse::overwrite);
    if (reserved.ok() || reserved.error().code() != ErrorCode::no_space) return reserved;
    if (attempt < kTransitTries && context_.relieve()) continue;
    if (blocks == 1) return reserved;
    blocks /= 2;
  }
}

Result<FileImpl::Below> FileImpl::look_below(uint64_t block, uint64_t limit) {
  uint64_t changing = block + limit;
  {
    // In flight: mapped by the time the next version of the page is written back. Dirty: perhaps
    // mapped by the time we come to it.
    MutexLock lock(mutex_);
    if (page_in_flight(pages_.state(block))) return Below{.written = 1};
    changing = std::min(changing, pages_.next(block, kUncommittedStates).value_or(changing));
  }
  Below below;
  const uint64_t end = block + limit;
  for (uint64_t at = block; at < end;) {
    Run run = FS_TRY(extents_.run_at(at));
    run.length_blocks = std::min(run.end_block(), end) - at;
    const bool unwritten = run.kind == RunKind::unwritten;
    if (run.kind == RunKind::hole || (unwritten ? below.written : below.unwritten) != 0) break;
    uint64_t& same = unwritten ? below.unwritten : below.written;
    const uint64_t usable = unwritten ? std::max(at, std::min(run.end_block(), changing)) - at
                                      : FS_TRY(extents_.count_freed(run));
    same += usable;
    if (usable < run.length_blocks) break;
    at = run.end_block();
  }
  return below;
}

RewriteAction FileImpl::choose_rewrite(uint64_t block, bool whole) {
  const Page* const page = pages_.find(block);
  RewriteFacts facts;
  facts.whole = whole;
  if (page == nullptr || !page_has_content(page->state)) {
    FS_ASSERT(whole);
    return RewriteAction::swap;
  }
  facts.sealed = page->buffer.sealed();
  facts.in_flight = page_in_flight(page->state);
  StableControl& stable = context_.stable();
  if (facts.in_flight) {
    facts.shadowed = page->state == PageState::writeback_dirty;
    facts.shadow_bytes = context_.shadow_bytes();
    facts.shadow_limit_bytes = stable.shadow_limit_bytes();
    facts.landing_ns = stable.landing_ns(context_.now_ns() - flight_of(block)->submitted_ns);
    facts.copy_ns = stable.copy_ns();
  }
  return decide_rewrite(stable.policy(), facts);
}

OrderedIo* FileImpl::flight_of(uint64_t block) {
  auto at = ordered_.upper_bound(block);
  FS_ASSERT(at != ordered_.begin());
  --at;
  FS_ASSERT(block < at->second->extent.end_block());
  return at->second.get();
}

Status FileImpl::wait_for_landing(uint64_t block, const OwnedBlocks& owned) {
  const uint64_t began_ns = context_.now_ns();
  context_.count().stable_waits.fetch_add(1, std::memory_order_relaxed);
  {
    // Nobody else changes this page meanwhile: we have the ticket. It may have landed already.
    MutexLock lock(mutex_);
    if (Page* page = pages_.find(block)) ++page->waiters;
  }
  Status status;
  while (true) {
    const uint64_t seen = context_.progress(schedule);
    finish_completed();
    {
      MutexLock lock(mutex_);
      if (!page_in_flight(pages_.state(block))) break;
    }
    // Complete, it may wait for blocks below it in the file.
    if (submit_below_held(owned).any) continue;
    status = context_.wait(schedule, seen);
    if (!status.ok()) break;
  }
  {
    MutexLock lock(mutex_);
    Page* page = pages_.find(block);
    if (page != nullptr && page->waiters > 0) --page->waiters;
  }
  context_.stable().note_wait(context_.now_ns() - began_ns);
  return status;
}

void FileImpl::install(PageWrite& job, uint64_t block, RewriteAction action) {
  const PageState before = pages_.state(block);
  const bool whole = job.covers(block, size_);
  BufferSlice fresh = new_content(job, block, action);
  Page* page = transition(block, whole ? PageEvent::write_whole : PageEvent::write_part);
  if (fresh) page->buffer = std::move(fresh);
  ++stamp_;
  if (page->dirty_stamp == 0) page->dirty_stamp = stamp_;
  if (job.needs_promise(block, before)) {
    promised_.merge(job.promise.split(1));
  } else if (!page_is_dirty(before)) {
    in_place_.insert(block, block + 1);
  }

  const uint64_t page_end = (block + 1) * kBlockSize;
  job.written_end = std::min(job.end, page_end);
  if (job.extends) size_ = std::max(size_, job.written_end);
  if (!job.extends || std::min(page_end, size_) > disk_size_) tail_.insert(block, block + 1);
}

// A new buffer for the page, or nothing when its own was changed in place.
BufferSlice FileImpl::new_content(const PageWrite& job, uint64_t block, RewriteAction action) {
  Page* const old = pages_.find(block);
  const bool in_flight = old != nullptr && page_in_flight(old->state);
  DataCounters& counters = context_.count();
  switch (action) {
    case RewriteAction::swap: {
      if (in_flight) counters.stable_swaps.fetch_add(1, std::memory_order_relaxed);
      if (job.has_whole(block)) {
        return job.whole.slice((block - job.whole_first) * kBlockSize, kBlockSize);
      }
      BufferSlice fresh = context_.page_pool().take();
      const bool all = job.to_in(block) - job.from_in(block) == kBlockSize;
      if (!all) std::memset(fresh.writable().data(), 0, kBlockSize);
      job.copy_into(fresh.writable(), block);
      return fresh;
    }
    case RewriteAction::copy: {
      if (!in_flight) return copy_of_page(job, block, *old);
      counters.stable_copies.fetch_add(1, std::memory_order_relaxed);
      const uint64_t began_ns = context_.now_ns();
      BufferSlice fresh = copy_of_page(job, block, *old);
      context_.stable().note_copy(context_.now_ns() - began_ns);
      return fresh;
    }
    case RewriteAction::in_place:
      job.copy_into(old->buffer.writable(), block);
      return {};
    case RewriteAction::overwrite:
      job.copy_into(old->buffer.writable_although_sealed(), block);
      flight_of(block)->overwritten_by =
          fmt::format("write of {} bytes at offset {}", job.end - job.offset, job.offset);
      counters.stable_overwrites.fetch_add(1, std::memory_order_relaxed);
      return {};
    case RewriteAction::wait:
      break;
  }
  FS_ASSERT(false);
  return {};
}

}  // namespace stablefs
