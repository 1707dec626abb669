// SPDX-License-Identifier: GPL-2.0-or-later
// Transactions: applying them to tree and space map, and writing them to the journal.
//
// Order of an acknowledged commit (seeds 3): the data writes complete; the transaction is appended;
// its batch is written and completes; one flush completes; only then `durable_sequence_` moves and
// what the batch freed may be used again. Batches are committed strictly one after the other, so
// each header's flushed_sequence is the last sequence of the batch before.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "format/items.h"
#include "store/store_impl.h"

namespace stablefs {
namespace {

// Records are written without anybody asking once this much has gathered.
constexpr uint64_t kOpenBatchBytes = 1 << 20;
constexpr uint64_t kConfirmAfterNs = kNsPerSecond;
constexpr uint64_t kDataShare = 4;  // the part of the ring that data on its way may reserve
constexpr uint64_t kShareWaitNs = 50 * kNsPerMs;

}  // namespace

Result<Sequence> StoreImpl::commit(const Transaction& transaction, bool grows,
                                   JournalReservation* journal) {
  FS_ASSERT(!transaction.empty());
  FS_TRY(check_writable());
  if (transaction.size_bytes() > kMaxTransactionBytes) return ErrorCode::transaction_too_large;
  std::vector<JournalOperation> operations;
  operations.reserve(transaction.op_count());
  FS_TRY(for_each_operation(transaction.body(), transaction.op_count(),
                            [&](const JournalOperation& operation) -> Status {
                              operations.push_back(operation);
                              if (operation.op != JournalOp::put) return {};
                              return validate_item(operation.key, operation.value, interval());
                            }));
  if (grows) FS_TRY(check_growth());
  JournalReservation own;
  if (journal == nullptr) {
    own = FS_TRY(take_journal(transaction.size_bytes()));
    journal = &own;
    // Only those who may wait do; a finishing ordered extent goes on into the reserve.
    while (dirty_nodes() >= dirty_node_limit_ && may_commit()) FS_TRY(run_checkpoint(false));
  }
  return apply(transaction, operations, *journal);
}

Result<Sequence> StoreImpl::apply(const Transaction& transaction,
                                  const std::vector<JournalOperation>& operations,
                                  JournalReservation& journal) {
  Sequence sequence;
  NodeRef failed;
  while (true) {
    Missing missing;
    {
      ExclusiveLock lock(tree_mutex_);
      missing = find_missing(operations);
      if (!missing) {
        sequence = Sequence(last_sequence_ + 1);
        Status status = apply_operations(operations, sequence, false);
        if (!status.ok()) {
          // Half applied: the maps in memory are damaged and must never reach the disk.
          fail(status.error());
          return status.error();
        }
        MutexLock journal_lock(journal_mutex_);
        if (!ring_->has_open_records()) {
          open_since_ns_ = options_.clock->monotonic_ns();
          background_work_.notify_one();
        }
        ring_->append(sequence, transaction.op_count(), transaction.body(),
                      transaction.maps_data());
        // Only now: whoever sees the number must find the record in the journal's buffer.
        last_sequence_ = sequence.value;
        ring_->release(journal.bytes_);
        journal.bytes_ = 0;
        if (share_waiters_ != 0) journal_changed_.notify_all();
        if (ring_->open_bytes() >= kOpenBatchBytes || ring_->wants_checkpoint() ||
            dirty_nodes() * 2 >= dirty_node_limit_) {
          background_work_.notify_one();
        }
        break;
      }
    }
    FS_TRY(load(missing, failed));
  }
  counters_.transactions.fetch_add(1, std::memory_order_relaxed);
  if (!options_.background && dirty_nodes() * 2 >= dirty_node_limit_) {
    FS_TRY(run_checkpoint(false));
  }
  return sequence;
}

StoreImpl::Missing StoreImpl::find_missing(const std::vector<JournalOperation>& operations) {
  MutexLock lock(space_mutex_);
  const auto erases = static_cast<uint64_t>(std::count_if(
      operations.begin(), operations.end(),
      [](const JournalOperation& operation) { return operation.op == JournalOp::erase; }));
  for (const JournalOperation& operation : operations) {
    switch (operation.op) {
      case JournalOp::put:
        if (NodeRef node = tree_.find_missing(operation.key)) return {node, std::nullopt};
        break;
      case JournalOp::erase:
        if (NodeRef node = tree_.find_missing_to_erase(operation.key, erases)) {
          return {node, std::nullopt};
        }
        break;
      case JournalOp::allocate:
      case JournalOp::free:
        if (auto group = space_.missing_group(operation.range)) return {nullptr, group};
        break;
      case JournalOp::data_checksums:
        break;
    }
  }
  return {};
}

Status StoreImpl::load(const Missing& missing, NodeRef& failed) {
  if (missing.group) return load_group(*missing.group);
  return fault_in_for_read(missing.node, failed);
}

Status StoreImpl::apply_operations(const std::vector<JournalOperation>& operations,
                                   Sequence sequence, bool replay) {
  MutexLock lock(space_mutex_);
  for (const JournalOperation& operation : operations) {
    const BlockRange& range = operation.range;
    switch (operation.op) {
      case JournalOp::put:
        count_unwritten(operation);
        tree_.put(operation.key, operation.value);
        break;
      case JournalOp::erase:
        count_unwritten(operation);
        if (!tree_.erase(operation.key)) {
          return Error(ErrorCode::item_invalid,
                       "erased but missing: " + key_to_text(operation.key));
        }
        break;
      case JournalOp::allocate:
        if (!space_.commit_allocation(range, !replay)) {
          return Error(
              ErrorCode::space_map_conflict,
              fmt::format("allocating {} blocks at {}", range.length_blocks, range.start.value));
        }
        if (!replay) in_flight_blocks_ -= range.length_blocks;
        break;
      case JournalOp::free:
        if (!space_.commit_free(range)) {
          return Error(
              ErrorCode::space_map_conflict,
              fmt::format("freeing {} blocks at {}", range.length_blocks, range.start.value));
        }
        if (replay) {
          space_.release_freed(range);  // what is replayed is durable
        } else {
          pending_frees_.push_back({sequence, range});
        }
        break;
      case JournalOp::data_checksums:
        break;
    }
  }
  return {};
}

void StoreImpl::count_unwritten(const JournalOperation& operation) {
  if (operation.key.kind != static_cast<uint8_t>(ItemKind::extent)) return;
  const auto unwritten = [](std::span<const std::byte> value) -> uint64_t {
    DiskExtent extent;
    if (value.size() < sizeof extent) return 0;
    std::memcpy(&extent, value.data(), sizeof extent);
    return (extent.flags & kExtentUnwritten) != 0 ? uint64_t{extent.length_blocks} : 0;
  };
  std::optional<std::vector<std::byte>> before;
  const NodeRef missing = tree_.get(operation.key, before);
  FS_ASSERT(!missing);
  // Of a damaged count nothing more is said here: the checker does.
  if (before) unwritten_blocks_ -= std::min(unwritten_blocks_, unwritten(*before));
  if (operation.op == JournalOp::put) unwritten_blocks_ += unwritten(operation.value);
}

// --- journal space

// For data on its way. It never gets all of the ring, because what arrives out of order gives its
// reservation up and needs another one when its turn comes: waiting for a checkpoint each time.
Result<JournalReservation> StoreImpl::reserve_journal(uint64_t bytes) {
  if (options_.background) wait_for_share(JournalRing::charge_bytes(bytes));
  return take_journal(bytes);
}

Result<JournalReservation> StoreImpl::take_journal(uint64_t bytes) {
  const uint64_t charge = JournalRing::charge_bytes(bytes);
  MutexLock lock(journal_mutex_);
  while (true) {
    FS_TRY(check_writable());
    if (stopping_) return ErrorCode::shut_down;
    if (ring_->try_reserve(charge)) return JournalReservation(this, charge);
    counters_.journal_waits.fetch_add(1, std::memory_order_relaxed);
    if (options_.background) {
      checkpoint_wanted_ = true;
      background_work_.notify_one();
      journal_changed_.wait(journal_mutex_);
    } else {
      lock.unlock();
      Status status = run_checkpoint(false);
      lock.lock();
      if (!status.ok()) return status.error();
    }
  }
}

// Bounded: those who hold the rest may need what the caller holds.
void StoreImpl::wait_for_share(uint64_t charge) {
  MutexLock lock(journal_mutex_);
  const uint64_t share = ring_->ring_bytes() / kDataShare;
  const uint64_t deadline_ns = options_.clock->monotonic_ns() + kShareWaitNs;
  ++share_waiters_;
  while (!stopping_ && may_commit() && ring_->reserved_bytes() != 0 &&
         ring_->reserved_bytes() + charge > share) {
    if (!journal_changed_.wait_until(journal_mutex_, *options_.clock, deadline_ns)) break;
  }
  --share_waiters_;
}

void StoreImpl::release_journal(uint64_t bytes) {
  MutexLock lock(journal_mutex_);
  ring_->release(bytes);
  journal_changed_.notify_all();
}

// --- writing batches

Status StoreImpl::sync(Sequence sequence) {
  FS_ASSERT(sequence <= last_sequence());
  MutexLock lock(journal_mutex_);
  while (durable_sequence_ < sequence.value) {
    if (!may_commit() || stopping_) return ErrorCode::shut_down;
    if (committing_) {
      journal_changed_.wait(journal_mutex_);
    } else {
      FS_TRY(lead_commit());
    }
  }
  return {};
}

Status StoreImpl::lead_commit() {
  FS_ASSERT(!committing_);
  committing_ = true;
  if (!ring_->seal() && !ring_->next_to_write()) ring_->seal_empty(last_sequence());
  Status status;
  while (BatchRef batch = ring_->next_to_write()) {
    const uint32_t previous = chain_;
    const Sequence flushed = durable_sequence();
    journal_mutex_.unlock();
    status = write_batch(*batch, previous, flushed);
    if (status.ok()) note_batch_durable(batch->last);
    journal_mutex_.lock();
    if (!status.ok()) break;
    ring_->written(batch);
    chain_ = batch->checksum;
    durable_sequence_ = batch->last.value;
    unconfirmed_ = batch->maps_data;
    unconfirmed_since_ns_ = options_.clock->monotonic_ns();
    journal_changed_.notify_all();
  }
  if (!status.ok()) {
    // While nobody else can lead: or else one that waits would write and flush the batch again, and
    // take the second answer of the device for the truth.
    journal_mutex_.unlock();
    fail(status.error());
    journal_mutex_.lock();
  }
  committing_ = false;
  journal_changed_.notify_all();
  background_work_.notify_one();
  return status;
}

Status StoreImpl::write_batch(JournalBatch& batch, uint32_t previous_checksum, Sequence flushed) {
  if (!may_commit()) return ErrorCode::shut_down;
  AlignedBuffer image(batch.length_blocks * kBlockSize);
  if (!batch.records.empty()) {
    std::memcpy(image.data() + sizeof(DiskBatchHeader), batch.records.data(), batch.records.size());
  }
  BatchInfo info;
  std::memcpy(info.epoch, epoch_, sizeof epoch_);
  info.first = batch.first;
  info.last = batch.last;
  info.flushed = flushed;
  info.previous_checksum = previous_checksum;
  batch.checksum = seal_batch(image.span(), info, static_cast<uint32_t>(batch.records.size()),
                              batch.record_count);
  for (const auto& step : plan_commit(batch.maps_data)) {
    Status status;
    switch (step.operation) {
      case CommitOperation::write_batch:
        status = write_ring(batch.position_blocks, image.span(), step.fua);
        break;
      case CommitOperation::flush:
        status = flush_device();
        break;
    }
    if (!status.ok()) return Error(ErrorCode::journal_write_failed, status.error().message());
  }
  counters_.journal_batches.fetch_add(1, std::memory_order_relaxed);
  counters_.journal_blocks.fetch_add(batch.length_blocks, std::memory_order_relaxed);
  counters_.journal_records.fetch_add(batch.record_count, std::memory_order_relaxed);
  batch.records = {};
  return {};
}

// One at a time, and none after one that failed: what the failed one lost, the next one would seem
// to have made durable.
Status StoreImpl::flush_device() {
  {
    MutexLock lock(journal_mutex_);
    while (flushing_) journal_changed_.wait(journal_mutex_);
    if (!may_commit()) return ErrorCode::shut_down;
    flushing_ = true;
  }
  const Status status = device_.flush();
  if (!status.ok()) fail(status.error());
  MutexLock lock(journal_mutex_);
  flushing_ = false;
  journal_changed_.notify_all();
  return status;
}

// A batch may wrap round the end of the ring; its checksum tells whether both parts arrived.
Status StoreImpl::write_ring(uint64_t position_blocks, std::span<const std::byte> bytes, bool fua) {
  const uint64_t ring = superblock_.journal_length_blocks;
  while (!bytes.empty()) {
    uint64_t index = position_blocks % ring;
    size_t part = std::min<uint64_t>(bytes.size(), (ring - index) * kBlockSize);
    FS_TRY(device_.write(Lba(superblock_.journal_start + index), bytes.first(part), fua));
    bytes = bytes.subspan(part);
    position_blocks += part / kBlockSize;
  }
  return {};
}

// --- background: the commit interval, checkpoints when journal or dirty nodes ask for one, and an
// empty batch soon after the last one that mapped data: its header confirms that the data is
// durable, so that recovery need not read it (and a later rotten block cannot cut the journal).

void StoreImpl::background() {
  journal_mutex_.lock();
  while (!stopping_ && may_commit()) {
    const uint64_t now = options_.clock->monotonic_ns();
    const bool open = ring_->has_open_records();
    const uint64_t due = open ? open_since_ns_ + options_.commit_interval_ns
                              : unconfirmed_since_ns_ + kConfirmAfterNs;
    if (checkpoint_wanted_ || ring_->wants_checkpoint() || dirty_nodes() * 2 >= dirty_node_limit_) {
      journal_mutex_.unlock();
      static_cast<void>(run_checkpoint(false).ok());  // a failure has latched
      journal_mutex_.lock();
    } else if (committing_ || (!open && !unconfirmed_)) {
      background_work_.wait(journal_mutex_);
    } else if (now >= due || ring_->open_bytes() >= kOpenBatchBytes) {
      static_cast<void>(lead_commit().ok());
    } else {
      background_work_.wait_until(journal_mutex_, *options_.clock, due);
    }
  }
  journal_changed_.notify_all();  // nobody moves the tail any more for those who wait for it
  journal_mutex_.unlock();
}

}  // namespace stablefs
