// SPDX-License-Identifier: GPL-2.0-or-later
// Mounting: space table, replay of the journal, and a first checkpoint under a new epoch.
//
// A writable mount flushes before it reads: what a killed daemon left in the device's volatile
// cache must not be built upon and then lost. It serves and writes only after its own checkpoint is
// durable, so a crash during recovery starts recovery again from the same superblock.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "format/items.h"
#include "store/store_impl.h"

namespace stablefs {
namespace {

constexpr uint64_t kSearchBlocks = 256;  // read at once when looking for lost batches

// Counting is enough while superblocks are intact: an epoch is used only after the superblock that
// names it is durable. Real mounts pass random ones, which no rolled-back history can repeat.
void next_epoch(uint8_t epoch[16]) {
  for (int i = 0; i < 16 && ++epoch[i] == 0; ++i) {
  }
}

}  // namespace

Status StoreImpl::recover() {
  if (!options_.read_only) {
    if (superblock_.read_only_compatible_features & ~kKnownReadOnlyCompatible) {
      return Error(ErrorCode::superblock_features, "can be mounted read-only");
    }
  }
  for (const auto& step : plan_recovery()) {
    switch (step.operation) {
      case RecoveryOperation::flush:
        if (!options_.read_only) FS_TRY(device_.flush());
        break;
      case RecoveryOperation::replay:
        FS_TRY(load_last_state());
        break;
      case RecoveryOperation::checkpoint:
        if (!options_.read_only) FS_TRY(begin_new_history());
        break;
    }
  }
  return {};
}

// The tree as of the last checkpoint, and the journal behind it.
Status StoreImpl::load_last_state() {
  FS_TRY(load_space_table());
  next_ino_ = superblock_.next_ino;
  last_sequence_ = superblock_.sequence;
  chain_ = superblock_.journal_chain;
  std::memcpy(epoch_, superblock_.epoch, sizeof epoch_);
  const uint64_t head = FS_TRY(replay());
  durable_sequence_ = last_sequence_.load();
  {
    MutexLock lock(journal_mutex_);
    if (!options_.read_only) {
      // A new epoch: no batch of the history before this mount can ever be taken for one after it.
      // Its chain starts at 0.
      options_.new_epoch ? options_.new_epoch(epoch_) : next_epoch(epoch_);
      chain_ = 0;
    }
    ring_ = std::make_unique<JournalRing>(superblock_.journal_length_blocks, head, chain_,
                                          last_sequence());
  }
  return {};
}

Status StoreImpl::begin_new_history() {
  latest_.mount_count = latest_.mount_count + 1;
  FS_TRY(run_checkpoint(false));
  if (options_.background) {
    background_thread_ = Thread("stablefs-commit", [this] { background(); });
    if (discards()) discard_thread_ = Thread("discard", [this] { discard_thread(); });
  }
  return {};
}

Status StoreImpl::load_space_table() {
  const uint64_t blocks = superblock_.space_table_blocks;
  AlignedBuffer buffer(blocks * kBlockSize);
  const Lba lba(superblock_.space_table_start + superblock_.space_table_slot * blocks);
  FS_TRY(device_.read(lba, buffer.span()));
  if (crc32c(0, buffer.span()) != superblock_.space_table_checksum) {
    return Error(ErrorCode::space_table_checksum, fmt::format("block {}", lba.value));
  }
  std::vector<DiskSpaceEntry> table(superblock_.group_count);
  std::memcpy(table.data(), buffer.data(), table.size() * sizeof(DiskSpaceEntry));
  for (uint64_t g = 0; g < table.size(); ++g) {
    uint64_t group_blocks = std::min(kGroupBlocks, superblock_.block_count - g * kGroupBlocks);
    if ((table[g].free_and_slot & 0x7FFF'FFFF) > group_blocks) {
      return Error(ErrorCode::space_table_checksum, fmt::format("group {} is impossible", g));
    }
  }
  MutexLock lock(space_mutex_);
  space_.load_table(std::move(table));
  unwritten_blocks_ = superblock_.unwritten_blocks;
  return {};
}

// --- replay: the longest chain of valid batches behind the superblock's tail, less what did not
// arrive whole.
//
// A batch and the data it maps share one flush, so the last batch of the chain may have survived a
// crash which its data did not. A header's flushed_sequence confirms the batches before it; an
// unconfirmed one counts only when every block it maps, and does not free again, has the checksum
// its record carries. Why no acknowledged batch is ever cut: its flush had completed, so its blocks
// are on the medium, and they are reused only after a later batch that freed them was flushed too,
// which then confirms this one.

Result<uint64_t> StoreImpl::replay() {
  const uint64_t ring = superblock_.journal_length_blocks;
  const uint64_t tail = superblock_.journal_tail_block;
  uint64_t position = tail;
  Sequence expected(last_sequence_ + 1);
  uint32_t chain = chain_;
  std::deque<ReplayBatch> unconfirmed;
  while (position - tail < ring) {
    auto batch = FS_TRY(read_batch(position % ring, expected, chain));
    if (!batch) break;
    position += batch->header().length_blocks;
    batch->position = position;
    chain = batch->header().checksum;
    expected = Sequence(batch->header().last_sequence + 1);
    while (!unconfirmed.empty() &&
           unconfirmed.front().header().last_sequence <= batch->header().flushed_sequence) {
      FS_TRY(replay_batch(unconfirmed.front()));
      unconfirmed.pop_front();
    }
    unconfirmed.push_back(std::move(*batch));
  }
  uint64_t head = position;
  const size_t arrived = arrived_prefix(unconfirmed);
  if (arrived < unconfirmed.size()) {
    head = arrived == 0 ? unconfirmed[0].position - unconfirmed[0].header().length_blocks
                        : unconfirmed[arrived - 1].position;
  }
  for (size_t i = 0; i < arrived; ++i) FS_TRY(replay_batch(unconfirmed[i]));
  if (superblock_.clean == 0) FS_TRY(look_for_lost_batches(position % ring, position - tail));
  if (position != tail) {
    options_.logger->write(LogLevel::info,
                           fmt::format("replayed {} transactions of the journal, up to {}",
                                       counters_.replayed_records.load(), last_sequence_.load()));
  }
  return head % ring;
}

// The batch that continues the chain at `ring_block`; nothing where the chain ends.
Result<std::optional<StoreImpl::ReplayBatch>> StoreImpl::read_batch(uint64_t ring_block,
                                                                    Sequence expected,
                                                                    uint32_t chain) {
  AlignedBuffer first(kBlockSize);
  FS_TRY(read_ring(ring_block, first.span()));
  auto header = parse_batch_header(first.span(), epoch_, superblock_.journal_length_blocks);
  if (!header.ok()) return std::optional<ReplayBatch>();
  if (header->first_sequence != expected.value || header->previous_checksum != chain) {
    return std::optional<ReplayBatch>();
  }
  AlignedBuffer whole(header->length_blocks * uint64_t{kBlockSize});
  FS_TRY(read_ring(ring_block, whole.span()));
  if (!validate_batch(whole.span()).ok()) return std::optional<ReplayBatch>();
  return std::optional<ReplayBatch>(ReplayBatch{std::move(whole), 0});
}

// How many of the unconfirmed batches count: the longest prefix whose data is there.
size_t StoreImpl::arrived_prefix(const std::deque<ReplayBatch>& unconfirmed) {
  for (size_t count = unconfirmed.size(); count > 0; --count) {
    auto missing = first_not_arrived(unconfirmed, count);
    if (!missing) return count;
    const DiskBatchHeader& header = unconfirmed[count - 1].header();
    options_.logger->write(
        LogLevel::warning,
        fmt::format("the crash cut off transactions {} to {}: block {} they map did not arrive",
                    uint64_t{header.first_sequence}, uint64_t{header.last_sequence},
                    missing->value));
  }
  return 0;
}

std::optional<Lba> StoreImpl::first_not_arrived(const std::deque<ReplayBatch>& unconfirmed,
                                                size_t count) {
  std::map<uint64_t, uint32_t> mapped;  // LBA -> checksum, as of the end of the prefix
  for (size_t i = 0; i < count; ++i) {
    Status walked = for_each_record(
        unconfirmed[i].bytes.span(),
        [&](Sequence, uint32_t op_count, std::span<const std::byte> body) {
          return for_each_operation(body, op_count, [&](const JournalOperation& op) -> Status {
            const uint64_t start = op.range.start.value;
            if (op.op == JournalOp::free) {
              mapped.erase(mapped.lower_bound(start), mapped.lower_bound(op.range.end().value));
            } else if (op.op == JournalOp::data_checksums) {
              const auto* checksums = reinterpret_cast<const le32*>(op.value.data());
              for (uint64_t b = 0; b < op.range.length_blocks; ++b) {
                mapped[start + b] = checksums[b];
              }
            }
            return {};
          });
        });
    FS_ASSERT(walked.ok());  // validate_batch has seen it
  }
  for (const auto& [lba, checksum] : mapped) {
    if (!data_arrived(Lba(lba), checksum)) return Lba(lba);
  }
  return std::nullopt;
}

bool StoreImpl::data_arrived(Lba lba, uint32_t checksum) {
  AlignedBuffer block(kBlockSize);
  if (Status status = device_.read(lba, block.span()); !status.ok()) {
    // Not what a crash leaves behind: damage of this block, which must not cost a transaction.
    options_.logger->write(LogLevel::error, fmt::format("block {} of the journal's data: {}",
                                                        lba.value, status.error().message()));
    return true;
  }
  return crc32c(0, block.span()) == checksum;
}

Status StoreImpl::replay_batch(const ReplayBatch& batch) {
  counters_.replayed_batches.fetch_add(1, std::memory_order_relaxed);
  return for_each_record(
      batch.bytes.span(),
      [this](Sequence sequence, uint32_t op_count, std::span<const std::byte> body) -> Status {
        if (sequence.value != last_sequence_ + 1) return ErrorCode::record_invalid;
        return replay_record(sequence, op_count, body);
      });
}

Status StoreImpl::replay_record(Sequence sequence, uint32_t op_count,
                                std::span<const std::byte> body) {
  std::vector<JournalOperation> operations;
  FS_TRY(for_each_operation(body, op_count, [&](const JournalOperation& op) -> Status {
    operations.push_back(op);
    if (op.op != JournalOp::put) return {};
    if (op.key.kind == static_cast<uint8_t>(ItemKind::inode) && op.key.object >= next_ino_) {
      next_ino_ = op.key.object + 1;
    }
    return validate_item(op.key, op.value, interval());
  }));
  NodeRef failed;
  while (true) {
    Missing missing;
    {
      ExclusiveLock lock(tree_mutex_);
      missing = find_missing(operations);
      if (!missing) {
        FS_TRY(apply_operations(operations, sequence, true));
        last_sequence_ = sequence.value;
        counters_.replayed_records.fetch_add(1, std::memory_order_relaxed);
        return {};
      }
    }
    FS_TRY(load(missing, failed));
  }
}

// A chain that ends below a sequence which a later valid batch knows to be durable is damage, not a
// crash: acknowledged history would be cut off silently.
Status StoreImpl::look_for_lost_batches(uint64_t ring_block, uint64_t walked) {
  const uint64_t ring = superblock_.journal_length_blocks;
  uint64_t read_in_full = 0;  // bound on what a ring of forged headers can make us read
  for (uint64_t done = walked; done < ring;) {
    uint64_t count = std::min(kSearchBlocks, ring - done);
    AlignedBuffer blocks(count * kBlockSize);
    FS_TRY(read_ring((ring_block + done - walked) % ring, blocks.span()));
    for (uint64_t i = 0; i < count; ++i) {
      auto header =
          parse_batch_header(blocks.span().subspan(i * kBlockSize, kBlockSize), epoch_, ring);
      if (!header.ok() || header->flushed_sequence <= last_sequence_) continue;
      if ((read_in_full += header->length_blocks) > 2 * ring) return {};
      AlignedBuffer whole(header->length_blocks * uint64_t{kBlockSize});
      FS_TRY(read_ring((ring_block + done - walked + i) % ring, whole.span()));
      if (!validate_batch(whole.span()).ok()) continue;
      return Error(ErrorCode::journal_damaged,
                   fmt::format("valid up to sequence {}, but {} was durable", last_sequence_.load(),
                               uint64_t{header->flushed_sequence}));
    }
    done += count;
  }
  return {};
}

Status StoreImpl::read_ring(uint64_t ring_block, std::span<std::byte> out) {
  const uint64_t ring = superblock_.journal_length_blocks;
  while (!out.empty()) {
    size_t part = std::min<uint64_t>(out.size(), (ring - ring_block) * kBlockSize);
    FS_TRY(device_.read(Lba(superblock_.journal_start + ring_block), out.first(part)));
    out = out.subspan(part);
    ring_block = 0;
  }
  return {};
}

}  // namespace stablefs
