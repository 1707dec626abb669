// SPDX-License-Identifier: GPL-2.0-or-later
// State of the journal ring. Passive: no locks, no I/O; the store calls it under its journal lock.
//
// Records go into an open batch; seal() closes it and gives it its place in the ring. Batches are
// written in the order they were sealed. Positions count blocks since the mount and never wrap;
// the place in the ring is position % ring length.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "format/journal.h"

namespace stablefs {

struct JournalBatch {
  std::vector<std::byte> records;
  uint32_t record_count = 0;
  Sequence first;
  Sequence last;
  bool maps_data = false;
  uint64_t position_blocks = 0;
  uint64_t length_blocks = 0;
  uint32_t checksum = 0;  // set when it has been written
};
using BatchRef = std::shared_ptr<JournalBatch>;

class JournalRing {
 public:
  // The next batch goes to `position_blocks`, behind a batch with `chain` as its checksum.
  JournalRing(uint64_t ring_blocks, uint64_t position_blocks, uint32_t chain, Sequence last);

  // Bytes a reservation for a record of `record_bytes` is charged: it may come to be a batch of
  // its own.
  static uint64_t charge_bytes(uint64_t record_bytes) { return record_bytes + 2 * kBlockSize; }

  bool try_reserve(uint64_t charge);  // false: wait for a checkpoint to move the tail
  void release(uint64_t charge);
  uint64_t reserved_bytes() const { return reserved_bytes_; }
  uint64_t ring_bytes() const { return ring_blocks_ * kBlockSize; }
  void append(Sequence sequence, uint32_t op_count, std::span<const std::byte> body,
              bool maps_data);
  // Closes the open batch; null when it is empty.
  BatchRef seal();
  // A batch without records, to carry a newer flushed_sequence.
  BatchRef seal_empty(Sequence last);
  BatchRef next_to_write();  // oldest sealed batch that is not written, or null
  void written(const BatchRef& batch);

  // A checkpoint made the journal before `position_blocks` unnecessary.
  void move_tail(uint64_t position_blocks);

  bool has_open_records() const { return open_ && open_->record_count != 0; }
  uint64_t open_bytes() const { return open_ ? open_->records.size() : 0; }
  uint64_t head_blocks() const { return head_; }
  uint64_t used_blocks() const { return head_ - tail_; }
  uint64_t ring_blocks() const { return ring_blocks_; }
  // A third is used: time for a checkpoint.
  bool wants_checkpoint() const { return used_blocks() * 3 > ring_blocks_; }
  // The batch sealed last (or the one the mount found last): its checksum is the chain.
  const BatchRef& last_sealed() const { return last_sealed_; }

 private:
  const uint64_t ring_blocks_;
  uint64_t head_;
  uint64_t tail_;
  uint64_t reserved_bytes_ = 0;
  BatchRef open_;
  BatchRef last_sealed_;
  BatchRef place(BatchRef batch);

  std::deque<BatchRef> sealed_;
};

}  // namespace stablefs
