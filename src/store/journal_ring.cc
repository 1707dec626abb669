// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/journal_ring.h"

#include "base/assert.h"

namespace stablefs {
namespace {

// Kept free for what no reservation covers: padding of batches and empty batches.
uint64_t slack_blocks(uint64_t ring_blocks) {
  return ring_blocks / 8;
}

}  // namespace

JournalRing::JournalRing(uint64_t ring_blocks, uint64_t position_blocks, uint32_t chain,
                         Sequence last)
    : ring_blocks_(ring_blocks), head_(position_blocks), tail_(position_blocks) {
  last_sealed_ = std::make_shared<JournalBatch>();
  last_sealed_->last = last;
  last_sealed_->checksum = chain;
}

bool JournalRing::try_reserve(uint64_t charge) {
  uint64_t want_blocks = blocks_for_bytes(reserved_bytes_ + open_bytes() + charge);
  if (used_blocks() + want_blocks + slack_blocks(ring_blocks_) > ring_blocks_) return false;
  reserved_bytes_ += charge;
  return true;
}

void JournalRing::release(uint64_t charge) {
  FS_ASSERT(reserved_bytes_ >= charge);
  reserved_bytes_ -= charge;
}

void JournalRing::append(Sequence sequence, uint32_t op_count, std::span<const std::byte> body,
                         bool maps_data) {
  if (!open_) open_ = std::make_shared<JournalBatch>();
  if (open_->record_count == 0) open_->first = sequence;
  open_->last = sequence;
  DiskRecordHeader header;
  header.length_bytes = static_cast<uint32_t>(sizeof header + body.size());
  header.op_count = op_count;
  header.sequence = sequence.value;
  const auto* bytes = reinterpret_cast<const std::byte*>(&header);
  open_->records.insert(open_->records.end(), bytes, bytes + sizeof header);
  open_->records.insert(open_->records.end(), body.begin(), body.end());
  ++open_->record_count;
  open_->maps_data |= maps_data;
}

BatchRef JournalRing::seal() {
  if (!has_open_records()) return nullptr;
  return place(std::exchange(open_, nullptr));
}

BatchRef JournalRing::seal_empty(Sequence last) {
  FS_ASSERT(!has_open_records());
  auto batch = std::make_shared<JournalBatch>();
  batch->first = last + 1;
  batch->last = last;
  return place(std::move(batch));
}

BatchRef JournalRing::place(BatchRef batch) {
  batch->length_blocks = blocks_for_bytes(sizeof(DiskBatchHeader) + batch->records.size());
  batch->position_blocks = head_;
  head_ += batch->length_blocks;
  FS_ASSERT(used_blocks() <= ring_blocks_);
  last_sealed_ = batch;
  sealed_.push_back(batch);
  return batch;
}

BatchRef JournalRing::next_to_write() {
  return sealed_.empty() ? nullptr : sealed_.front();
}

void JournalRing::written(const BatchRef& batch) {
  FS_ASSERT(!sealed_.empty() && sealed_.front() == batch);
  sealed_.pop_front();
}

void JournalRing::move_tail(uint64_t position_blocks) {
  FS_ASSERT(position_blocks >= tail_ && position_blocks <= head_);
  tail_ = position_blocks;
}

}  // namespace stablefs
