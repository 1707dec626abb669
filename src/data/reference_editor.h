// SPDX-License-Identifier: GPL-2.0-or-later
// How many extents map a block: items {0, reference, LBA} for blocks that several map; a block
// without an item has one owner.
//
// An editor collects the changes of one transaction, as TupleEditor does. Items are cut where
// somebody begins or ceases to share, and never joined: so all blocks of one item have the same
// owners.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "data/interval_set.h"
#include "store/store.h"
#include "store/transaction.h"

namespace stablefs {

// Some block of `range` has several owners.
Result<bool> any_shared(Store& store, BlockRange range);
// How many blocks at the start of `range` have one owner.
Result<uint64_t> count_unshared(Store& store, BlockRange range);
// Items that describe blocks of `range`, counted up to `limit`.
Result<uint64_t> count_reference_items(Store& store, BlockRange range, uint64_t limit);

class ReferenceEditor {
 public:
  explicit ReferenceEditor(Store& store) : store_(store) {}

  struct Piece {
    BlockRange range;
    uint32_t count;  // of owners from now on
  };
  // One owner more: the pieces, in order.
  Result<std::vector<Piece>> share(BlockRange range);
  // One owner less. Pieces without an owner are left to the caller to free.
  Result<std::vector<Piece>> release(BlockRange range);
  void emit(Transaction& transaction) const;

  // What a transaction grows by when the owners of a run in that many items change.
  static size_t edit_bytes(uint64_t item_count);

 private:
  struct Shared {
    uint64_t end;
    uint32_t count;

    bool operator==(const Shared&) const = default;
  };
  Status load(BlockRange range);
  void cut_at(uint64_t lba);
  // Gives every block of `range` an item of its own range, those with one owner too.
  Status itemise(BlockRange range);
  // After an error nothing may be emitted.
  Result<std::vector<Piece>> change_owners(BlockRange range, int difference);

  Store& store_;
  IntervalSet loaded_;
  std::map<uint64_t, Shared> original_;  // by the first LBA
  std::map<uint64_t, Shared> shared_;    // as it will be
};

}  // namespace stablefs
