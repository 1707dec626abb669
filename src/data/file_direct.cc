// SPDX-License-Identifier: GPL-2.0-or-later
// Writing past the cache. Everything here happens under a direct ticket, which outlives the call.
#include <algorithm>
#include <cstring>

#include "data/page_write.h"

namespace stablefs {
namespace {

// Small payloads come in large buffers: so much may be kept from being received into.
constexpr uint64_t kPinnedWritesMax = 64;

}  // namespace

Status FileImpl::write_direct(uint64_t offset, const BufferSlice& payload, Timestamp now,
                              DirectDone done) {
  FS_ASSERT(payload.size() > 0);
  if (offset > kMaxFileBytes || payload.size() > kMaxFileBytes - offset) {
    return ErrorCode::file_too_large;
  }
  FS_TRY(context_.health().check(Activity::change));
  FS_TRY(context_.throttle());
  uint64_t written = 0;
  while (true) {
    const BufferSlice rest = payload.slice(written, payload.size() - written);
    const auto begun = begin_direct(offset + written, rest, now, written, done);
    if (begun.ok() && !*begun) return {};
    // What this start replaces may be what the rest needs.
    const Result<uint64_t> mapped = begun.ok() ? (*begun)->mapped.wait() : begun.error();
    if (!mapped.ok() && written == 0) return mapped.error();
    if (mapped.ok()) written += *mapped;
    if (!mapped.ok() || *mapped < (*begun)->bytes) {
      done(written);
      return {};
    }
  }
}

// Nothing: all of it is under way, and `done`, which is moved from, is called with that and
// `written_before`. Else there is space for a start only, which is under way.
Result<std::shared_ptr<DirectStart>> FileImpl::begin_direct(uint64_t offset,
                                                            const BufferSlice& payload,
                                                            Timestamp now, uint64_t written_before,
                                                            DirectDone& done) {
  const uint64_t end = offset + payload.size();
  const auto direct = std::make_shared<DirectWrite>(ranges_, offset, end, now);
  const OwnedBlocks owned = acquire_range(direct->ticket, RangeClass::direct, offset, end, true);
  if (direct->ticket.waited()) {
    context_.count().direct_waits.fetch_add(1, std::memory_order_relaxed);
  }
  auto parts = make_parts(direct, payload, owned);
  if (!parts.ok()) {
    release(direct->ticket);
    return parts.error();
  }
  std::shared_ptr<DirectStart> part;
  if (direct->end != end) {
    part = std::make_shared<DirectStart>();
    part->bytes = direct->end - offset;
    direct->done = [part](Result<uint64_t> mapped) { part->mapped.set(std::move(mapped)); };
  } else if (written_before == 0) {
    direct->done = std::move(done);
  } else {
    direct->done = [done = std::move(done), written_before](const Result<uint64_t>& mapped) {
      done(written_before + (mapped.ok() ? *mapped : 0));
    };
  }
  for (OrderedIo* io : *parts) start(io);
  return part;
}

Result<std::vector<OrderedIo*>> FileImpl::make_parts(const std::shared_ptr<DirectWrite>& direct,
                                                     const BufferSlice& payload,
                                                     const OwnedBlocks& owned) {
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  // From the end of the file on all is ours: an older version in flight there must have landed, so
  // that below we can submit the newest, which nobody else can.
  FS_TRY(wait_ordered(std::min(owned.first, direct->first_block()), direct->end_block(), owned));
  if (direct->first_block() > size / kBlockSize) FS_TRY(zero_edge());
  Promise promised = FS_TRY(promise_direct(*direct, owned));
  const uint64_t end_block =
      std::max(promised.in_place_end, direct->first_block() + promised.space.blocks());
  direct->end = std::min(direct->end, end_block * kBlockSize);
  auto pages = FS_TRY(direct_pages(*direct, payload));
  // It cannot be mapped before what lies below it and was never written.
  uint64_t lowest = direct->first_block();
  {
    MutexLock lock(mutex_);
    lowest = std::min(lowest, tail_.lowest().value_or(lowest));
  }
  submit_range(lowest, direct->first_block(), kNoLimit, owned);
  return enlist_parts(direct, std::move(pages), std::move(promised.space));
}

// As much as there is: a write may end short.
Result<FileImpl::Promise> FileImpl::promise_direct(const DirectWrite& direct,
                                                   const OwnedBlocks& owned) {
  const uint64_t first = direct.first_block(), end = direct.end_block();
  auto promised = promise(first, end - first);
  const bool all = promised.ok() && promised->space.blocks() == end - first;
  if (all || (!promised.ok() && promised.error().code() != ErrorCode::no_space)) return promised;
  // What is dirty here was promised blocks of its own, and nobody else can write it back.
  if (!submit_range(first, end, kNoLimit, owned).any) return promised;
  if (promised.ok()) promised->space.release();
  FS_TRY(wait_ordered(first, end, owned));
  return promise(first, end - first);
}

Result<std::vector<BufferSlice>> FileImpl::direct_pages(const DirectWrite& direct,
                                                        const BufferSlice& payload) {
  PageWrite job;
  job.offset = direct.offset;
  job.end = direct.end;
  const BufferSlice used = payload.slice(0, direct.end - direct.offset);
  job.data = used.bytes();
  stage_whole_pages(
      job, used, payload.size() >= kAdoptBytes || context_.direct_in_flight() < kPinnedWritesMax);
  std::vector<BufferSlice> pages;
  pages.reserve(job.end_block() - job.first_block());
  for (uint64_t block = job.first_block(); block < job.end_block(); ++block) {
    if (job.has_whole(block)) {
      pages.push_back(job.whole.slice((block - job.whole_first) * kBlockSize, kBlockSize));
    } else {
      pages.push_back(FS_TRY(merged_page(job, block)));
    }
  }
  return pages;
}

// A block that is written in part, with what is there now around that.
Result<BufferSlice> FileImpl::merged_page(const PageWrite& job, uint64_t block) {
  BufferSlice old;
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
    const Page* page = pages_.find(block);
    if (page != nullptr && page_has_content(page->state)) old = page->buffer;
  }
  BufferSlice fresh = context_.page_pool().take();
  const std::span<std::byte> bytes = fresh.writable();
  if (job.covers(block, size)) {
    std::memset(bytes.data(), 0, bytes.size());
  } else {
    if (!old) old = FS_TRY(read_base(block));
    const uint64_t inside = std::min<uint64_t>(size - block * kBlockSize, kBlockSize);
    std::memcpy(bytes.data(), old.bytes().data(), inside);
    // The device may have anything beyond the size.
    std::memset(bytes.data() + inside, 0, kBlockSize - inside);
  }
  job.copy_into(bytes, block);
  return fresh;
}

std::vector<OrderedIo*> FileImpl::enlist_parts(const std::shared_ptr<DirectWrite>& direct,
                                               std::vector<BufferSlice> pages,
                                               SpaceReservation space) {
  std::vector<OrderedIo*> parts;
  context_.direct_started(schedule, pages.size());
  MutexLock lock(mutex_);
  for (size_t from = 0; from < pages.size();) {
    const size_t length = std::min<size_t>(pages.size() - from, kMaxOrderedBlocks);
    auto io = std::make_unique<OrderedIo>(OrderedExtent(direct->first_block() + from, length));
    io->pages.assign(pages.begin() + static_cast<ptrdiff_t>(from),
                     pages.begin() + static_cast<ptrdiff_t>(from + length));
    for (BufferSlice& page : io->pages) page.seal();
    io->sealed = true;
    io->size_at_seal = std::max(size_, direct->end);
    io->submitted_ns = context_.now_ns();
    if (space.blocks() != 0) io->space = space.split(length);
    io->direct = direct;
    context_.count().ordered_created.fetch_add(1, std::memory_order_relaxed);
    parts.push_back(&enter(std::move(io)));
    direct->parts.add(*parts.back());
    from += length;
  }
  return parts;
}

// It is mapped: what the cache has of it is old.
void FileImpl::end_direct_pages(const OrderedIo& io) {
  for (uint64_t block = io.extent.first_block(); block < io.extent.end_block(); ++block) {
    const PageState state = pages_.state(block);
    if (page_is_dirty(state)) release_promise(block);
    transition(block, PageEvent::direct_over);
  }
}

}  // namespace stablefs
