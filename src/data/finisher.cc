// SPDX-License-Identifier: GPL-2.0-or-later
// The end of an ordered extent: one transaction maps it, or its blocks are given back and the old
// mapping stays.
#include <fmt/format.h>

#include <algorithm>

#include "data/file_impl.h"

namespace stablefs {

void FileImpl::finish(OrderedIo& io) {
  Work work{&io};
  while (!work.empty()) {
    OrderedIo* next = work.back();
    work.pop_back();
    finish_one(*next, work);
  }
}

void FileImpl::finish_completed() {
  while (OrderedIo* io = context_.take_completed(schedule)) finish(*io);
}

void FileImpl::finish_held() {
  Work work;
  {
    MutexLock lock(mutex_);
    for (const auto& [first, io] : held_) work.push_back(io);
    held_.clear();
  }
  for (OrderedIo* io : work) finish(*io);
}

// Accounts for what the device has done. False: something is left and under way again.
bool FileImpl::arrived(OrderedIo& io) {
  if (!io.status.ok()) return true;
  if (io.extent.arrived(io.blocks_done * kBlockSize)) return true;
  if (io.blocks_done == 0 || context_.abandoned()) {
    io.status = Error(ErrorCode::device_short, "no progress");
    return true;
  }
  submit_io(io, io.extent.length_blocks() - io.extent.bytes_left() / kBlockSize);
  return false;
}

void FileImpl::finish_one(OrderedIo& io, Work& more) {
  if (io.extent.state() == OrderedState::submitted && !arrived(io)) return;
  const std::shared_ptr<DirectWrite> direct = io.direct;
  if (direct && !has_turn(io)) return;
  if (std::exchange(io.sealed, false)) {
    for (BufferSlice& page : io.pages) page.unseal();
  }
  if (io.status.ok() && context_.abandoned()) io.status = ErrorCode::shut_down;
  Outcome outcome;
  Status status = io.status;
  if (status.ok()) status = commit(io, outcome);
  if (outcome.held) {  // perhaps in another thread's hands by now
    // Whoever waits for it must see to what is below; nobody may.
    if (direct) context_.hasten(schedule);
    context_.made_progress(schedule);
    return;
  }
  if (!status.ok()) {
    io.status = std::move(status);
    fail(io, outcome);
  }
  more.insert(more.end(), outcome.released.begin(), outcome.released.end());
  if (outcome.next_part != nullptr) more.push_back(outcome.next_part);
  if (io.redirtied) context_.mark_dirty(schedule);
  outcome.ended.reset();
  if (outcome.direct_over) end_direct(*direct);
  if (context_.options().keep_clean) context_.note_clean(schedule);
  context_.made_progress(schedule);
  context_.unpin(schedule);
  if (outcome.direct_over) direct->done(direct->result());
}

// Nothing changes the write any more.
void FileImpl::end_direct(DirectWrite& direct) {
  context_.direct_ended(direct.end_block() - direct.first_block());
  release(direct.ticket);
  DataCounters& counters = context_.count();
  counters.direct_bytes.fetch_add(direct.mapped_end - direct.offset, std::memory_order_relaxed);
  if (direct.mapped_end == direct.end) return;
  const bool failed = direct.mapped_end == direct.offset;
  (failed ? counters.direct_failed : counters.direct_short).fetch_add(1, std::memory_order_relaxed);
}

// Parts of a direct write end in the order of the file. What failed before it fails it.
bool FileImpl::has_turn(OrderedIo& io) {
  MutexLock lock(mutex_);
  DirectParts& parts = io.direct->parts;
  if (!parts.landed(io)) return false;
  if (io.status.ok()) io.status = parts.status();
  return true;
}

Status FileImpl::commit(OrderedIo& io, Outcome& outcome) {
  // Held to the end: what was judged (disk size, blocks below) is changed under it only.
  MutexLock attributes_lock(inode_.mutex);
  uint64_t disk_size = 0;
  {
    MutexLock lock(mutex_);
    switch (io.cancelled ? Verdict::fail : judge(io)) {
      case Verdict::commit:
        break;
      case Verdict::hold:
        // Kept while waiting for others who need journal space, it could be what they wait for.
        io.journal.release();
        io.journal_bytes = 0;
        outcome.held = true;
        held_.emplace(io.extent.first_block(), &io);
        return {};
      case Verdict::fail:
        return Error(ErrorCode::writeback_failed, "data before it in the file was lost");
    }
    disk_size = disk_size_after(io);
  }

  Transaction transaction;
  const ExtentMap::Mapping mapping{io.extent.first_block(), io.range, io.tuples, io.checksums,
                                   io.in_place};
  const ExtentMap::Replacement replaced = FS_TRY(extents_.replace(transaction, mapping));
  const int64_t delta = replaced.block_delta;
  InodeAttributes attributes = inode_.attributes;
  FS_ASSERT(delta >= 0 || attributes.block_count >= static_cast<uint64_t>(-delta));
  attributes.block_count += static_cast<uint64_t>(delta);
  attributes.disk_size_bytes = disk_size;
  if (io.direct) {
    attributes.size_bytes = std::max(attributes.size_bytes, io.end_bytes());
    attributes.modify_time = attributes.change_time = io.direct->now;
  }
  transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
  const bool reserved = transaction.size_bytes() <= io.journal_bytes;
  {
    const MappingChange change(inode_);
    inode_.last_sequence =
        FS_TRY(store_.commit(transaction, false, reserved ? &io.journal : nullptr));
  }
  inode_.attributes = attributes;
  inode_.item_dirty = false;
  context_.damage().forget(replaced.healed);

  io.extent.commit();
  context_.stable().note_flight(context_.now_ns() - io.submitted_ns);
  context_.count().ordered_committed.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  if (io.direct) {
    size_ = std::max(size_, io.end_bytes());
    tail_.erase(io.extent.first_block(), io.extent.end_block());
  }
  // The size may have moved on since it was judged. A last block that was not written again is
  // complete whatever comes behind it: it is zero there.
  const uint64_t last = io.extent.end_block() - 1;
  if (!rewritten_since_seal(io, last)) tail_.erase(last, last + 1);
  disk_size_moved(disk_size);
  end(io, PageEvent::write_done, outcome);
  return {};
}

// May it be mapped now? Not above a block that has never been written: the size would have to pass
// that block or leave this one behind the end of the file.
FileImpl::Verdict FileImpl::judge(const OrderedIo& io) {
  if (io.end_bytes() <= disk_size_) return Verdict::commit;
  const auto lowest = tail_.lowest();
  if (!lowest || *lowest >= io.extent.first_block()) return Verdict::commit;
  const PageState below = pages_.state(*lowest);
  if (page_in_flight(below)) return Verdict::hold;
  if (below == PageState::dirty) return context_.closed() ? Verdict::fail : Verdict::hold;
  FS_ASSERT(below == PageState::write_failed);
  return Verdict::fail;
}

uint64_t FileImpl::disk_size_after(const OrderedIo& io) {
  uint64_t size = io.direct ? std::max(size_, io.end_bytes()) : size_;
  if (const auto lowest = tail_.lowest_outside(io.extent.first_block(), io.extent.end_block())) {
    size = std::min(size, *lowest * kBlockSize);
  }
  // The last block has grown since it was sealed: what was added has not arrived.
  const uint64_t end = io.end_bytes();
  const bool grown =
      end % kBlockSize != 0 && size_ > end && rewritten_since_seal(io, io.extent.end_block() - 1);
  if (grown) size = std::min(size, end);
  return std::max(size, disk_size_);
}

// Perhaps: what a truncation in progress has dropped leaves no trace. Nobody writes beside a direct
// write.
bool FileImpl::rewritten_since_seal(const OrderedIo& io, uint64_t block) {
  if (io.direct) return false;
  return pages_.state(block) != PageState::writeback || block >= cut_from_;
}

void FileImpl::disk_size_moved(uint64_t disk_size_bytes) {
  disk_size_ = disk_size_bytes;
  tail_.erase(0, disk_size_ / kBlockSize);
  // The block the end is in stays: somebody may be zeroing the rest of it before the file grows.
  if (size_ <= disk_size_) tail_.erase(blocks_for_bytes(size_), kNoLimit);
}

void FileImpl::fail(OrderedIo& io, Outcome& outcome) {
  io.extent.fail();
  if (io.range.length_blocks != 0 && !io.in_place) store_.give_back(io.range);
  bool quiet = context_.closed();
  {
    MutexLock lock(mutex_);
    quiet |= io.cancelled;
    end(io, PageEvent::write_failed, outcome);
  }
  if (quiet) return;
  context_.count().ordered_failed.fetch_add(1, std::memory_order_relaxed);
  // Its writer hears of it, and the old content is still there: nothing is lost.
  if (io.direct) return report_failed_direct(io);
  // Nothing is written any more: that is told to everybody, not as an error of this file.
  if (io.status.error().code() == ErrorCode::shut_down) return;
  errors_.fetch_add(1);
  report_loss(io);
}

std::string FileImpl::failure_text(const OrderedIo& io) const {
  std::string what = fmt::format("inode {}: {} bytes at offset {} could not be written to {}",
                                 inode_.ino.value, io.extent.length_blocks() * kBlockSize,
                                 io.extent.first_block() * kBlockSize, context_.device().name());
  if (io.range.length_blocks != 0) what += fmt::format(", block {}", io.range.start.value);
  return what;
}

void FileImpl::report_failed_direct(const OrderedIo& io) {
  const Error& error = io.status.error();
  const bool of_device =
      error.code() != ErrorCode::no_space && error.code() != ErrorCode::shut_down;
  if (!of_device) return;
  context_.options().logger->write(LogLevel::warning, failure_text(io) + ": " + error.message());
}

void FileImpl::report_loss(const OrderedIo& io) {
  const Error& error = io.status.error();
  std::string what = failure_text(io);
  if (!io.overwritten_by.empty()) what += ", overwritten in flight by a " + io.overwritten_by;
  context_.options().logger->write(LogLevel::error, what + ": " + error.message());
  // Want of space is no error of the device; what hangs on other lost data was counted with that.
  const bool consequence =
      error.code() == ErrorCode::no_space || error.code() == ErrorCode::writeback_failed;
  if (consequence) return;
  context_.health().report(HealthEvent::data_lost,
                           Error(ErrorCode::writeback_failed, what + ": " + error.message()));
}

void FileImpl::end(OrderedIo& io, PageEvent event, Outcome& outcome) {
  const auto entry = ordered_.find(io.extent.first_block());
  FS_ASSERT(entry != ordered_.end());
  // With its pages, so that they may be gathered anew.
  outcome.ended = std::move(entry->second);
  context_.ordered_ended();
  ordered_.erase(entry);
  const bool mapped = event == PageEvent::write_done;
  if (!io.direct) {
    end_pages(io, event);
  } else if (mapped) {
    end_direct_pages(io);
  }
  if (io.direct) {
    DirectWrite& direct = *io.direct;
    if (mapped) direct.mapped_end = std::min(direct.end, io.extent.end_block() * kBlockSize);
    outcome.next_part = direct.parts.ended(mapped ? Status() : io.status);
    outcome.direct_over = direct.parts.over();
  }

  // Those above look again when nothing is below them any more, or nothing that will ever come.
  const auto lowest = tail_.lowest();
  const bool lost = lowest && !kUncommittedStates.has(pages_.state(*lowest));
  for (auto at = held_.begin(); at != held_.end();) {
    if (lowest && !lost && at->first > *lowest) break;
    outcome.released.push_back(at->second);
    at = held_.erase(at);
  }
}

void FileImpl::end_pages(OrderedIo& io, PageEvent event) {
  const bool keep_clean = context_.options().keep_clean;
  for (uint64_t block = io.extent.first_block(); block < io.extent.end_block(); ++block) {
    Page* page = transition(block, event);
    const uint64_t stamp = std::exchange(page->flight_stamp, 0);
    if (page->state == PageState::dirty) {
      io.redirtied = true;
      // The newer version has the bytes of the lost one too.
      if (event == PageEvent::write_failed) page->dirty_stamp = std::min(stamp, page->dirty_stamp);
    }
    // Truncated away is not lost.
    const bool gone = io.cancelled && page->state == PageState::write_failed;
    const bool wanted = keep_clean || page->waiters > 0;
    if (page->state == PageState::clean && !wanted) transition(block, PageEvent::drop);
    if (gone) transition(block, PageEvent::remove);
  }
}

}  // namespace stablefs
