// SPDX-License-Identifier: GPL-2.0-or-later
// Reading: pages in the cache first, then the tree and the device for those that are not there.
#include <algorithm>
#include <cstring>
#include <deque>

#include "data/block_reader.h"
#include "data/file_impl.h"

namespace stablefs {
namespace {

// Pages copied under one hold of the mutex.
constexpr uint64_t kCopyBatchPages = 16;

// What goes from memory we read into to the caller once it is verified.
struct Copy {
  std::span<const std::byte> from;
  std::span<std::byte> to;
};

// A read of `out` from `offset` on, cut into what the device can do.
class ReadPlan {
 public:
  ReadPlan(uint64_t offset, std::span<std::byte> out) : offset_(offset), out_(out) {}

  // The part of the caller's memory for these bytes of the file.
  std::span<std::byte> out_part(uint64_t first_byte, uint64_t end_byte) const {
    const uint64_t from = std::max(first_byte, offset_);
    const uint64_t to = std::min(end_byte, offset_ + out_.size());
    if (from >= to) return {};
    return out_.subspan(from - offset_, to - from);
  }

  // Whole blocks that fit go straight into the caller's memory, which is private to the request;
  // the rest takes a detour.
  void add(const Run& run, BlockReader& reader, uint32_t tuples_a_block) {
    const auto fits = [&](uint64_t block) {
      return block * kBlockSize >= offset_ && (block + 1) * kBlockSize <= offset_ + out_.size() &&
             reinterpret_cast<uintptr_t>(out_.data() + (block * kBlockSize - offset_)) %
                     kBlockSize ==
                 0;
    };
    for (uint64_t at = run.first_block; at < run.end_block();) {
      const bool direct = fits(at);
      uint64_t to = at + 1;
      while (to < run.end_block() && fits(to) == direct) ++to;
      Run piece = part(run, at, to, tuples_a_block);
      if (direct) {
        reader.add(std::move(piece), out_part(at * kBlockSize, to * kBlockSize));
      } else {
        bounce(std::move(piece), reader);
      }
      at = to;
    }
  }

  void finish() const {
    for (const Copy& copy : copies_) std::memcpy(copy.to.data(), copy.from.data(), copy.to.size());
  }

 private:
  static Run part(const Run& run, uint64_t first, uint64_t end, uint32_t tuples_a_block) {
    const uint64_t skip = first - run.first_block;
    Run result{run.kind, first, end - first, run.lba + skip, {}};
    const auto start = run.tuples.begin() + static_cast<ptrdiff_t>(skip * tuples_a_block);
    result.tuples.assign(start, start + static_cast<ptrdiff_t>((end - first) * tuples_a_block));
    return result;
  }

  void bounce(Run run, BlockReader& reader) {
    const uint64_t first_byte = run.first_block * kBlockSize;
    AlignedBuffer& memory = bounces_.emplace_back(run.length_blocks * kBlockSize);
    const std::span<std::byte> to = out_part(first_byte, run.end_block() * kBlockSize);
    const uint64_t skip = std::max(first_byte, offset_) - first_byte;
    copies_.push_back({memory.span().subspan(skip, to.size()), to});
    reader.add(std::move(run), memory.span());
  }

  const uint64_t offset_;
  const std::span<std::byte> out_;
  std::deque<AlignedBuffer> bounces_;
  std::vector<Copy> copies_;
};

}  // namespace

Result<uint64_t> FileImpl::read(uint64_t offset, std::span<std::byte> out, ReadCache cache) {
  if (out.empty() || offset >= kMaxFileBytes) return uint64_t{0};
  out = out.first(std::min(out.size(), kMaxFileBytes - offset));
  RangeTicket ticket(ranges_, RangeClass::read, round_down(offset), round_up(offset + out.size()));
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  if (offset >= size) return uint64_t{0};
  out = out.first(std::min(out.size(), size - offset));

  std::vector<Missing> missing;
  const bool keep = context_.options().keep_clean && cache == ReadCache::keep;
  copy_cached(offset, out, keep, missing);
  if (!missing.empty()) FS_TRY(read_missing(offset, out, missing));

  DataCounters& counters = context_.count();
  counters.reads.fetch_add(1, std::memory_order_relaxed);
  counters.read_bytes.fetch_add(out.size(), std::memory_order_relaxed);
  return out.size();
}

void FileImpl::copy_cached(uint64_t offset, std::span<std::byte> out, bool keep,
                           std::vector<Missing>& missing) {
  const uint64_t end = offset + out.size();
  const uint64_t end_block = blocks_for_bytes(end);
  const uint64_t read_id = keep ? next_read_id_.fetch_add(1) : 0;
  uint64_t hits = 0;
  for (uint64_t block = offset / kBlockSize; block < end_block;) {
    MutexLock lock(mutex_);
    const uint64_t batch_end = std::min(end_block, block + kCopyBatchPages);
    for (; block < batch_end; ++block) {
      const Page* page = pages_.find(block);
      if (page != nullptr && page_has_content(page->state)) {
        const uint64_t from = std::max(offset, block * kBlockSize);
        const uint64_t to = std::min(end, (block + 1) * kBlockSize);
        std::memcpy(out.data() + (from - offset),
                    page->buffer.bytes().data() + (from - block * kBlockSize), to - from);
        if (keep) pages_.touch(block);
        ++hits;
        continue;
      }
      // Somebody else's reading is not waited for: the device has the same bytes for us.
      const uint64_t id = keep && page == nullptr ? read_id : 0;
      if (id != 0) transition(block, PageEvent::read_start)->read_id = id;
      if (!missing.empty() && missing.back().end_block == block && missing.back().read_id == id) {
        ++missing.back().end_block;
      } else {
        missing.push_back({block, block + 1, id});
      }
    }
  }
  DataCounters& counters = context_.count();
  counters.cache_hits.fetch_add(hits, std::memory_order_relaxed);
  counters.cache_misses.fetch_add(end_block - offset / kBlockSize - hits,
                                  std::memory_order_relaxed);
}

Status FileImpl::read_missing(uint64_t offset, std::span<std::byte> out,
                              const std::vector<Missing>& missing) {
  const uint32_t tuples_a_block = tuples_per_block(store_.interval());
  ReadPlan plan(offset, out);
  std::deque<BufferSlice> contents;  // of the pages that stay in the cache
  Status status = [&]() -> Status {
    BlockReader reader(context_, extents_, inode_);
    for (const Missing& gap : missing) {
      std::span<std::byte> pages;
      if (gap.read_id != 0) {
        contents.emplace_back((gap.end_block - gap.first_block) * kBlockSize);
        pages = contents.back().writable();
      }
      auto runs = FS_TRY(lookup_beside_changes(extents_, inode_, gap.first_block, gap.end_block));
      for (Run& run : runs) {
        const uint64_t first_byte = run.first_block * kBlockSize;
        const uint64_t end_byte = run.end_block() * kBlockSize;
        if (run.kind != RunKind::written) {
          const std::span<std::byte> to = plan.out_part(first_byte, end_byte);
          std::memset(to.data(), 0, to.size());
        } else if (gap.read_id != 0) {
          const uint64_t skip = (run.first_block - gap.first_block) * kBlockSize;
          reader.add(std::move(run), pages.subspan(skip, end_byte - first_byte));
        } else {
          plan.add(run, reader, tuples_a_block);
        }
      }
    }
    return reader.finish();
  }();

  auto content = contents.begin();
  for (const Missing& gap : missing) {
    if (gap.read_id == 0) continue;
    if (status.ok()) {
      const std::span<std::byte> to =
          plan.out_part(gap.first_block * kBlockSize, gap.end_block * kBlockSize);
      const uint64_t skip =
          std::max(offset, gap.first_block * kBlockSize) - gap.first_block * kBlockSize;
      std::memcpy(to.data(), content->bytes().data() + skip, to.size());
    }
    end_reading(gap, status.ok() ? &*content++ : nullptr);
  }
  if (status.ok()) plan.finish();
  return status;
}

void FileImpl::end_reading(const Missing& gap, const BufferSlice* content) {
  {
    MutexLock lock(mutex_);
    for (uint64_t block = gap.first_block; block < gap.end_block; ++block) {
      // A write may have come first, and what it wrote may even have left the cache again.
      const Page* before = pages_.find(block);
      if (before == nullptr || before->state != PageState::reading) continue;
      if (before->read_id != gap.read_id) continue;
      if (content == nullptr) {
        transition(block, PageEvent::read_failed);
        continue;
      }
      Page* page = transition(block, PageEvent::read_done);
      page->buffer = content->slice((block - gap.first_block) * kBlockSize, kBlockSize);
      pages_.touch(block);
      // On the device the last block may have old bytes beyond the size.
      if (block == size_ / kBlockSize) zero_in_cache(size_);
    }
    pages_changed_.notify_all();
  }
  if (content != nullptr && context_.options().keep_clean) context_.note_clean(schedule);
}

Result<BufferSlice> FileImpl::read_base(uint64_t block) {
  BlockReader reader(context_, extents_, inode_);
  BufferSlice content(kBlockSize);
  auto runs = FS_TRY(lookup_beside_changes(extents_, inode_, block, block + 1));
  FS_ASSERT(runs.size() == 1);
  if (runs.front().kind == RunKind::written) {
    reader.add(std::move(runs.front()), content.writable());
    FS_TRY(reader.finish());
  }
  return content;
}

// --- SEEK_DATA, SEEK_HOLE: what is in memory and not on the device yet is data.

Result<uint64_t> FileImpl::next_data(uint64_t block, uint64_t end_block) {
  {
    MutexLock lock(mutex_);
    if (const auto cached = pages_.next(block, kUnsavedStates)) {
      end_block = std::min(end_block, *cached);
    }
  }
  while (block < end_block) {
    const Run run = FS_TRY(extents_.run_at(block));
    if (run.kind == RunKind::written) return block;
    block = std::min(end_block, run.end_block());
  }
  return end_block;
}

Result<uint64_t> FileImpl::next_hole(uint64_t block, uint64_t end_block) {
  while (block < end_block) {
    {
      MutexLock lock(mutex_);
      while (block < end_block && kUnsavedStates.has(pages_.state(block))) ++block;
    }
    if (block >= end_block) break;
    const Run run = FS_TRY(extents_.run_at(block));
    if (run.kind != RunKind::written) break;
    block = run.end_block();
  }
  return std::min(block, end_block);
}

Result<uint64_t> FileImpl::seek(uint64_t offset, bool hole) {
  RangeTicket ticket(ranges_);
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  if (offset >= size) return ErrorCode::seek_beyond_end;
  ticket.acquire(RangeClass::read, round_down(offset), round_up(size));
  {
    MutexLock lock(mutex_);
    size = std::min(size, size_);
  }
  if (offset >= size) return ErrorCode::seek_beyond_end;
  const uint64_t end_block = blocks_for_bytes(size);
  const uint64_t block = offset / kBlockSize;
  const uint64_t found =
      hole ? FS_TRY(next_hole(block, end_block)) : FS_TRY(next_data(block, end_block));
  if (found == end_block && !hole) return ErrorCode::seek_beyond_end;
  return std::min(size, std::max(offset, found * kBlockSize));
}

}  // namespace stablefs
