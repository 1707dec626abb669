// SPDX-License-Identifier: GPL-2.0-or-later
// Where the blocks of one file are: looking them up in the store, and the operations that map,
// replace and free them. Without locks and state of its own: the caller holds InodeState::mutex
// from building a transaction until its commit has returned, so that nobody changes the same
// extents (and the tuples of their blocks) in between.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "data/damage_list.h"
#include "data/extent.h"
#include "data/inode_state.h"
#include "data/reference_editor.h"
#include "data/sharing.h"
#include "data/tuple_editor.h"
#include "store/store.h"
#include "store/transaction.h"

namespace stablefs {

enum class RunKind : uint8_t { hole, unwritten, written };

// Consecutive blocks of a file that are consecutive on the device too, or a hole.
struct Run {
  RunKind kind = RunKind::hole;
  uint64_t first_block = 0;
  uint64_t length_blocks = 0;
  Lba lba;                    // not of a hole
  std::vector<Tuple> tuples;  // of a written run

  uint64_t end_block() const { return first_block + length_blocks; }
};

inline constexpr uint64_t kEndOfFileBlocks = std::numeric_limits<uint64_t>::max();

class ExtentMap {
 public:
  // `damage`: may be null. `sharing`: null where no block ever has several owners.
  ExtentMap(Store& store, Ino ino, DamageList* damage = nullptr, Sharing* sharing = nullptr)
      : store_(store), ino_(ino), interval_(store.interval()), damage_(damage), sharing_(sharing) {}

  // Runs that cover [first, end) exactly, in order. As of one moment only for the holder of the
  // mutex; others ask lookup_beside_changes.
  Result<std::vector<Run>> lookup(uint64_t first, uint64_t end) const;
  // The run that `block` is in, from `block` on, without tuples; a hole behind the last extent
  // ends at kEndOfFileBlocks.
  Result<Run> run_at(uint64_t block) const;

  // How many blocks of a written run come free when they are replaced, from its start on: those
  // before the first one that is shared.
  Result<uint64_t> count_freed(const Run& run) const;
  bool may_share() const { return sharing_ != nullptr && sharing_->any(); }

  struct Cost {
    uint64_t length_blocks;  // how much of the range fits into one transaction
    uint64_t bytes;          // that the transaction takes at most
    BlockRange unwritten{};  // where that much is, when it is unwritten blocks: data goes there
  };
  // Of replacing [first, first + length).
  Result<Cost> replacement_cost(uint64_t first, uint64_t length_blocks) const;

  struct Mapping {
    uint64_t first_block;
    BlockRange range;
    std::span<const Tuple> tuples;
    std::span<const uint32_t> checksums;  // CRC32C of each block
    bool in_place = false;                // it is mapped already, as unwritten
  };
  struct Replacement {
    int64_t block_delta = 0;  // by how much the number of mapped blocks changes
    std::vector<Lba> healed;  // off the damage list with the transaction
    SharingLock lock{};       // to be held until it is committed
  };
  // Maps freshly written blocks; what was mapped there is freed.
  Result<Replacement> replace(Transaction& transaction, const Mapping& mapping) const;
  // Maps freshly allocated blocks as unwritten; what was mapped there is freed.
  Result<Replacement> put_unwritten(Transaction& transaction, uint64_t first_block,
                                    BlockRange range) const;

  struct Removal {
    uint64_t blocks_freed = 0;
    uint64_t next_block = 0;  // go on here; kEndOfFileBlocks: nothing is left
    std::vector<Lba> healed;  // off the damage list with the transaction
    SharingLock lock{};       // to be held until it is committed
  };
  // Unmaps [first, end) as far as about `limit_bytes` of transaction allow.
  Result<Removal> remove(Transaction& transaction, uint64_t first, uint64_t end,
                         size_t limit_bytes) const;

  struct Shared {
    uint64_t blocks_done = 0;    // as far as about the limit allows; at least 1
    uint64_t blocks_shared = 0;  // of those; the others are holes
    int64_t block_delta = 0;     // of the target
    std::vector<Lba> healed;     // off the damage list with the transaction
    SharingLock lock{};          // to be held until it is committed
  };
  // Maps the blocks of `target` from `target_first` on to where those of [first, end) are. What was
  // mapped there is given up; holes and unwritten blocks become holes. The caller holds the mutexes
  // of both inodes, which may be one and the same: then the ranges do not overlap.
  Result<Shared> share(Transaction& transaction, uint64_t first, uint64_t end,
                       const ExtentMap& target, uint64_t target_first, size_t limit_bytes) const;

  // Puts the tuples of written blocks from `first` on with another application tag, as far as about
  // `limit_bytes` of transaction allow. Returns where to go on; kEndOfFileBlocks: nothing is left.
  Result<uint64_t> set_app_tag(Transaction& transaction, uint64_t first, uint16_t app_tag,
                               size_t limit_bytes) const;

 private:
  // Extents that overlap [first, end), in order.
  Result<std::vector<Extent>> overlapping(uint64_t first, uint64_t end, size_t limit) const;
  Result<Run> run_of(const Extent& extent, uint64_t first, uint64_t end) const;
  // What one transaction does with blocks that files give up.
  struct Freeing {
    Freeing(Transaction& changed, Store& store)
        : transaction(changed), tuples(store), references(store) {}
    void emit() {
      tuples.emit(transaction);
      references.emit(transaction);
    }

    Transaction& transaction;
    TupleEditor tuples;
    ReferenceEditor references;
    SharingLock lock{};
    std::vector<Lba> healed{};
    bool keep_blocks = false;  // they stay with the file, unwritten before
  };
  // Puts an extent over what is there. `in_place`: it is the same blocks, unwritten before.
  Result<Replacement> put_over(Transaction& transaction, Extent& fresh, bool in_place) const;
  Status merge_with_previous(Extent& fresh) const;
  // Takes [first, end) out of an old extent: puts what is left at its sides, frees the middle. The
  // item is erased unless something is put at its key (`replaced_key` counts as put).
  Status cut(Freeing& freeing, const Extent& old, uint64_t first, uint64_t end,
             uint64_t replaced_key) const;
  // The one place where blocks of files are given up: shared blocks are freed by the last owner.
  Status free_blocks(Freeing& freeing, const Extent& gone) const;
  Status free_owned(Freeing& freeing, const Extent& gone) const;
  Status release_shared(Freeing& freeing, const Extent& gone) const;
  Result<bool> needs_sharing_lock(const Extent& gone) const;
  // That it takes of the transaction at most; `items`: reference items it touches.
  size_t freeing_bytes(const Extent& gone, uint64_t items = 0) const;
  size_t sharing_bytes(const Extent& extent, uint64_t items) const;
  Result<uint64_t> reference_items(const Extent& extent) const;
  // --- sharing (extent_share.cc)
  Result<uint64_t> shareable(uint64_t first, uint64_t end, size_t limit_bytes) const;
  Result<uint64_t> removable(uint64_t first, uint64_t end, size_t limit_bytes) const;
  template <class PartBytes>
  Result<uint64_t> fitting(uint64_t first, uint64_t end, size_t limit_bytes,
                           PartBytes part_bytes) const;
  Status add_owner(Freeing& freeing, const Extent& extent) const;

  Store& store_;
  const Ino ino_;
  const Interval interval_;
  DamageList* const damage_;
  Sharing* const sharing_;
};

// ExtentMap::lookup for those who do not hold the mutex of the inode, ...
Result<std::vector<Run>> lookup_beside_changes(const ExtentMap& extents, InodeState& inode,
                                               uint64_t first, uint64_t end);
// ... and ExtentMap::replacement_cost.
Result<ExtentMap::Cost> cost_beside_changes(const ExtentMap& extents, InodeState& inode,
                                            uint64_t first, uint64_t length_blocks);

}  // namespace stablefs
