// SPDX-License-Identifier: GPL-2.0-or-later
// A checkpoint: freeze the tree at sequence S, write what changed to free places, flush, then let
// a superblock name it. Transactions go on meanwhile in the next generation.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "store/parallel_writer.h"
#include "store/store_impl.h"

namespace stablefs {
namespace {

constexpr uint32_t kWritesInFlight = 16;
constexpr size_t kNodesPerWrite = 64;

}  // namespace

Status StoreImpl::run_checkpoint(bool clean) {
  {
    MutexLock lock(journal_mutex_);
    while (checkpointing_) journal_changed_.wait(journal_mutex_);
    FS_TRY(check_writable());
    if (stopping_) return ErrorCode::shut_down;
    checkpointing_ = true;
    checkpoint_wanted_ = false;
  }
  Status status = do_checkpoint(clean);
  if (!status.ok()) fail(Error(ErrorCode::checkpoint_failed, status.error().message()));
  MutexLock lock(journal_mutex_);
  checkpointing_ = false;
  journal_changed_.notify_all();
  return status;
}

Status StoreImpl::do_checkpoint(bool clean) {
  std::optional<Frozen> frozen;
  while (!frozen) {
    FS_TRY(prepare_groups());
    frozen = FS_TRY(freeze());
  }
  // The tail moves behind the batch that ends at S: its checksum must be known.
  FS_TRY(sync(frozen->sequence));
  const uint32_t table_slot = latest_.space_table_slot == 0 ? 1 : 0;
  uint32_t table_checksum = 0;
  for (const auto& step : plan_checkpoint()) {
    switch (step.operation) {
      case CheckpointOperation::write_nodes:
        FS_TRY(write_nodes(*frozen));
        break;
      case CheckpointOperation::write_bitmaps:
        FS_TRY(write_bitmaps(*frozen));
        break;
      case CheckpointOperation::write_space_table:
        FS_TRY(write_space_table(table_slot, table_checksum));
        compose_superblock(*frozen, table_slot, table_checksum, clean);
        break;
      case CheckpointOperation::flush:
        FS_TRY(flush_device());
        break;
      case CheckpointOperation::write_superblock_near:
        FS_TRY(write_superblock(superblock_slots(frozen->generation)[0], step.fua));
        break;
      case CheckpointOperation::write_superblock_far:
        FS_TRY(write_superblock(superblock_slots(frozen->generation)[1], step.fua));
        break;
    }
  }
  finish_checkpoint(*frozen);
  return {};
}

// Loads the bitmaps of every block the freeze will touch, so that it does no I/O.
Status StoreImpl::prepare_groups() {
  std::vector<Lba> replaced;
  {
    SharedLock lock(tree_mutex_);
    replaced = tree_.replaced();
  }
  for (Lba lba : replaced) FS_TRY(load_group(SpaceMap::group_of(lba)));
  while (true) {
    std::optional<uint32_t> group;
    {
      MutexLock lock(space_mutex_);
      if (space_.loaded_available() >= 2 * dirty_nodes() * copies_) return {};
      group = space_.group_worth_loading(Lba(0));
    }
    if (!group) return {};
    FS_TRY(load_group(*group));
  }
}

Result<std::optional<StoreImpl::Frozen>> StoreImpl::freeze() {
  ExclusiveLock tree_lock(tree_mutex_);
  MutexLock space_lock(space_mutex_);
  for (Lba lba : tree_.replaced()) {
    if (!space_.loaded(SpaceMap::group_of(lba))) return std::optional<Frozen>();
  }
  if (space_.loaded_available() < tree_.dirty_nodes() * copies_) {
    if (space_.group_worth_loading(Lba(0))) return std::optional<Frozen>();
    return Error(ErrorCode::no_space, "for the tree's nodes");
  }
  Frozen frozen;
  frozen.generation = tree_.generation();
  frozen.nodes = tree_.freeze();
  frozen.root = tree_.root();
  assign_addresses(frozen.nodes);
  frozen.replaced = tree_.take_replaced();
  for (Lba lba : frozen.replaced) FS_ASSERT(space_.commit_free({lba, 1}));
  frozen.bitmaps = space_.freeze();
  frozen.free_blocks = space_.frozen_free_blocks();
  frozen.next_ino = next_ino_;
  frozen.unwritten_blocks = unwritten_blocks_;

  MutexLock journal_lock(journal_mutex_);
  frozen.sequence = last_sequence();
  ring_->seal();
  frozen.last_batch = ring_->last_sealed();
  frozen.tail_position = ring_->head_blocks();
  return std::optional<Frozen>(std::move(frozen));
}

void StoreImpl::assign_addresses(const std::vector<NodeRef>& nodes) {
  // Longer runs save no time, and looking for them would take some, with everybody waiting.
  constexpr size_t kRunNodes = 64;
  for (size_t next = 0; next < nodes.size();) {
    auto run = space_.allocate(std::min(nodes.size() - next, kRunNodes), Lba(0));
    FS_ASSERT(run.has_value());  // counted before the freeze
    FS_ASSERT(space_.commit_allocation(*run, true));
    for (uint64_t i = 0; i < run->length_blocks; ++i) nodes[next++]->lba[0] = run->start + i;
  }
  if (copies_ == 1) return;
  for (const NodeRef& node : nodes) {
    auto second = space_.allocate_apart(node->lba[0]);
    FS_ASSERT(second.has_value());
    FS_ASSERT(space_.commit_allocation(*second, true));
    node->lba[1] = second->start;
  }
}

// Children come first, so that a parent's image holds its children's checksums. Runs of adjacent
// nodes go out in one write.
Status StoreImpl::write_nodes(const Frozen& frozen) {
  ParallelWriter writer(device_, kWritesInFlight);
  const auto& nodes = frozen.nodes;
  for (size_t first = 0; first < nodes.size();) {
    size_t count = 1;
    while (first + count < nodes.size() && count < kNodesPerWrite && copies_ == 1 &&
           nodes[first + count]->lba[0] == nodes[first]->lba[0] + count) {
      ++count;
    }
    auto buffer = std::make_shared<AlignedBuffer>(count * kBlockSize);
    for (size_t i = 0; i < count; ++i) {
      auto image = buffer->span().subspan(i * kBlockSize, kBlockSize);
      Tree::build_image(*nodes[first + i], image);
      FS_ASSERT(validate_node(image, nodes[first + i]->address(), nodes[first + i]->level).ok());
    }
    writer.write(nodes[first]->lba[0], nodes[first]->lba[1], buffer, count * kBlockSize);
    first += count;
  }
  counters_.checkpoint_nodes.fetch_add(nodes.size(), std::memory_order_relaxed);
  return writer.wait();
}

Status StoreImpl::write_bitmaps(const Frozen& frozen) {
  ParallelWriter writer(device_, kWritesInFlight);
  for (const SpaceMap::FrozenBitmap& bitmap : frozen.bitmaps) {
    auto buffer = std::make_shared<AlignedBuffer>(kBlockSize);
    for (size_t w = 0; w < bitmap.bits.size(); ++w) {
      reinterpret_cast<le64*>(buffer->data())[w] = bitmap.bits[w];
    }
    {
      MutexLock lock(space_mutex_);
      space_.set_checksum(bitmap.group, crc32c(0, buffer->span()));
    }
    writer.write(Lba(superblock_.bitmap_start + 2 * uint64_t{bitmap.group} + bitmap.slot), Lba(),
                 buffer, kBlockSize);
  }
  return writer.wait();
}

Status StoreImpl::write_space_table(uint32_t slot, uint32_t& checksum) {
  const uint64_t blocks = superblock_.space_table_blocks;
  AlignedBuffer buffer(blocks * kBlockSize);
  {
    MutexLock lock(space_mutex_);
    std::memcpy(buffer.data(), space_.table().data(),
                space_.table().size() * sizeof(DiskSpaceEntry));
  }
  checksum = crc32c(0, buffer.span());
  return device_.write(Lba(superblock_.space_table_start + slot * blocks), buffer.span());
}

void StoreImpl::compose_superblock(const Frozen& frozen, uint32_t table_slot,
                                   uint32_t table_checksum, bool clean) {
  latest_.generation = frozen.generation.value;
  latest_.written_seconds = static_cast<uint64_t>(options_.clock->wall_time().seconds);
  latest_.root = to_disk(frozen.root->address());
  latest_.root_level = frozen.root->level;
  latest_.space_table_slot = static_cast<uint8_t>(table_slot);
  latest_.space_table_checksum = table_checksum;
  latest_.sequence = frozen.sequence.value;
  latest_.journal_tail_block = frozen.tail_position % superblock_.journal_length_blocks;
  std::memcpy(latest_.epoch, epoch_, sizeof epoch_);
  latest_.journal_chain = frozen.last_batch->checksum;
  latest_.flushed_sequence = frozen.sequence.value;
  latest_.next_ino = frozen.next_ino;
  latest_.unwritten_blocks = frozen.unwritten_blocks;
  latest_.free_blocks = frozen.free_blocks;
  latest_.clean = clean ? 1 : 0;
  seal_superblock(latest_);
}

Status StoreImpl::write_superblock(uint64_t slot, bool fua) {
  FS_ASSERT(validate_superblock(latest_, device_.block_count()).ok());
  AlignedBuffer buffer(kBlockSize);
  std::memcpy(buffer.data(), &latest_, sizeof latest_);
  return device_.write(superblock_lba(slot, superblock_.block_count), buffer.span(), fua);
}

// Only now is the older generation history: its nodes may be reused, the journal behind it too.
void StoreImpl::finish_checkpoint(const Frozen& frozen) {
  {
    ExclusiveLock lock(tree_mutex_);
    tree_.frozen_became_clean(frozen.nodes);
    uint64_t limit = options_.node_cache_bytes / kBlockSize;
    counters_.node_evictions += tree_.evict(limit, frozen.nodes.size() + 1024);
  }
  note_nodes_replaced(frozen.replaced);
  MutexLock lock(journal_mutex_);
  ring_->move_tail(frozen.tail_position);
  counters_.checkpoints.fetch_add(1, std::memory_order_relaxed);
  journal_changed_.notify_all();
}

}  // namespace stablefs
