// SPDX-License-Identifier: GPL-2.0-or-later
// Life of a FileImpl and what is common to its parts.
#include "data/file_data.h"

#include <cstring>

#include "data/file_impl.h"

namespace stablefs {

FileImpl::FileImpl(ContextImpl& context, InodeState& inode)
    : schedule(*this),
      context_(context),
      store_(context.store()),
      inode_(inode),
      extents_(context.store(), inode.ino, &context.damage(), &context.sharing()) {
  MutexLock attributes(inode_.mutex);
  MutexLock lock(mutex_);
  size_ = inode_.attributes.size_bytes;
  disk_size_ = inode_.attributes.disk_size_bytes;
}

FileImpl::~FileImpl() {
  context_.remove_file(schedule);
  MutexLock lock(mutex_);
  FS_ASSERT(ordered_.empty());
  // Whoever let it come to dirty pages here has stopped or abandoned the context.
  for (uint64_t block = 0; const auto next = pages_.next(block, kPresentStates);) {
    context_.account(pages_.state(*next), PageState::absent);
    block = *next + 1;
  }
}

Page* FileImpl::transition(uint64_t block, PageEvent event) {
  const PageState before = pages_.state(block);
  Page* page = pages_.apply(block, event);
  context_.account(before, page == nullptr ? PageState::absent : page->state);
  return page;
}

// The page that contains `from_byte`, if it is cached, is zero from there on. Memory under I/O is
// left as it is: bytes beyond the size may be anything on the device.
void FileImpl::zero_in_cache(uint64_t from_byte) {
  const uint64_t keep = from_byte % kBlockSize;
  Page* page = pages_.find(from_byte / kBlockSize);
  if (keep == 0 || page == nullptr || !page_has_content(page->state)) return;
  if (page->buffer.sealed()) {
    BufferSlice fresh(kBlockSize);
    std::memcpy(fresh.writable().data(), page->buffer.bytes().data(), keep);
    page->buffer = std::move(fresh);
  } else {
    const std::span<std::byte> tail = page->buffer.writable().subspan(keep);
    std::memset(tail.data(), 0, tail.size());
  }
}

bool FileImpl::has_dirty_pages() {
  MutexLock lock(mutex_);
  return !ordered_.empty() || pages_.next(0, kUncommittedStates).has_value();
}

bool FileImpl::has_lost_pages() {
  MutexLock lock(mutex_);
  return pages_.count(PageState::write_failed) != 0;
}

bool FileImpl::idle() {
  MutexLock lock(mutex_);
  return ordered_.empty() && pages_.empty();
}

void FileImpl::list_in_flight(std::vector<InFlight>& out) {
  const uint64_t now_ns = context_.now_ns();
  MutexLock lock(mutex_);
  for (const auto& [first, io] : ordered_) {
    out.push_back({.ino = inode_.ino,
                   .first_block = first,
                   .length_blocks = io->extent.length_blocks(),
                   .state = to_string(io->extent.state()),
                   .direct = io->direct != nullptr,
                   .held = held_.contains(first),
                   .age_ns = now_ns - io->submitted_ns});
  }
}

uint64_t FileImpl::promised_blocks() {
  MutexLock lock(mutex_);
  return pages_.count(PageState::dirty) + pages_.count(PageState::writeback) +
         2 * pages_.count(PageState::writeback_dirty);
}

void FileImpl::drop_clean() {
  evict(true);
}

uint64_t FileImpl::evict(bool even_if_touched) {
  uint64_t dropped = 0;
  MutexLock lock(mutex_);
  for (uint64_t from = 0; const auto block = pages_.next(from, PageStates{PageState::clean});) {
    if (!even_if_touched && pages_.take_touched(*block)) {
      from = (*block / PageMap::kChunkPages + 1) * PageMap::kChunkPages;
      continue;
    }
    transition(*block, PageEvent::drop);
    from = *block + 1;
    ++dropped;
  }
  return dropped;
}

}  // namespace stablefs
