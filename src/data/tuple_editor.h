// SPDX-License-Identifier: GPL-2.0-or-later
// Tuples of longer extents: items {0, tuples, LBA} of up to kMaxTuplesPerItem tuples. Runs need not
// be aligned; the item that contains an LBA is the last one at or below it.
//
// An editor collects the changes of one transaction: several extents may have their tuples in
// one item, and the tree shows only what was committed before.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "data/interval_set.h"
#include "integrity/tuple.h"
#include "store/store.h"
#include "store/transaction.h"

namespace stablefs {

// The tuples of `range`; extent_invalid when one is missing.
Result<std::vector<Tuple>> read_tuples(Store& store, BlockRange range);
// Puts the tuples of newly mapped blocks.
void put_tuples(Transaction& transaction, BlockRange range, std::span<const Tuple> tuples,
                Interval interval);

// Worst case a transaction grows by: putting the tuples of new blocks, ...
size_t put_tuples_bytes(uint64_t length_blocks, Interval interval);
// ... deleting those of a run (both ends inside items that go on).
size_t erase_tuples_bytes(uint64_t length_blocks);

class TupleEditor {
 public:
  explicit TupleEditor(Store& store) : store_(store), interval_(store.interval()) {}

  Status erase(BlockRange range);
  Status set_app_tag(BlockRange range, uint16_t app_tag);
  // From now on in items of its own: those that go on beyond an end of it are cut there.
  Status split_around(BlockRange range);
  // Worst case a transaction grows by when the tuples of a run are put anew.
  static size_t edit_bytes(uint64_t length_blocks, Interval interval);
  // ... when a run of blocks is split into that many pieces.
  static size_t split_bytes(uint64_t piece_count, uint64_t length_blocks, Interval interval);
  void emit(Transaction& transaction) const;

 private:
  Status load(BlockRange range);
  void split_at(uint64_t lba);

  Store& store_;
  const Interval interval_;
  IntervalSet loaded_;                               // blocks whose original items were read
  std::map<uint64_t, std::vector<Tuple>> original_;  // by LBA
  std::map<uint64_t, std::vector<Tuple>> pieces_;    // what is left of them
};

}  // namespace stablefs
