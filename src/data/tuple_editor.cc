// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/tuple_editor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "format/items.h"
#include "stablefs/format.h"

namespace stablefs {
namespace {

constexpr size_t kKeyBytes = 17;
constexpr size_t kEraseBytes = 1 + kKeyBytes;
constexpr size_t kPutOverheadBytes = 1 + kKeyBytes + 2;
constexpr size_t kMaxItemBytes = kMaxTuplesPerItem * sizeof(Tuple);

uint64_t blocks_per_item(Interval interval) {
  return kMaxTuplesPerItem / tuples_per_block(interval);
}

Error missing(Lba lba) {
  return Error(ErrorCode::extent_invalid, fmt::format("block {} has no tuples", lba.value));
}

Result<std::vector<Tuple>> parse_tuples(const Item& item, Interval interval) {
  if (const Status valid = validate_item(item.key, item.value, interval); !valid.ok()) {
    return Error(ErrorCode::extent_invalid, valid.error().message());
  }
  std::vector<Tuple> tuples(item.value.size() / sizeof(Tuple));
  std::memcpy(tuples.data(), item.value.data(), item.value.size());
  return tuples;
}

// The item that contains `lba`.
Result<std::pair<uint64_t, std::vector<Tuple>>> find_item(Store& store, Lba lba) {
  const auto item = FS_TRY(
      store.floor(Key::global(ItemKind::tuples, lba.value), Key::global(ItemKind::tuples, 0)));
  if (!item) return missing(lba);
  std::vector<Tuple> tuples = FS_TRY(parse_tuples(*item, store.interval()));
  const uint64_t length = tuples.size() / tuples_per_block(store.interval());
  if (item->key.offset + length <= lba.value) return missing(lba);
  return std::pair(item->key.offset, std::move(tuples));
}

bool same_tuples(const std::vector<Tuple>& a, const std::vector<Tuple>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(Tuple)) == 0;
}

}  // namespace

Result<std::vector<Tuple>> read_tuples(Store& store, BlockRange range) {
  const uint32_t per_block = tuples_per_block(store.interval());
  const uint64_t end = range.end().value;
  std::vector<Tuple> result;
  result.reserve(range.length_blocks * per_block);

  auto [first, tuples] = FS_TRY(find_item(store, range.start));
  uint64_t at = range.start.value;
  auto take = [&](uint64_t item_first, const std::vector<Tuple>& item_tuples) {
    const uint64_t item_end = item_first + item_tuples.size() / per_block;
    const uint64_t to = std::min(item_end, end);
    result.insert(result.end(),
                  item_tuples.begin() + static_cast<ptrdiff_t>((at - item_first) * per_block),
                  item_tuples.begin() + static_cast<ptrdiff_t>((to - item_first) * per_block));
    at = to;
  };
  take(first, tuples);
  while (at < end) {
    const auto items = FS_TRY(
        store.scan(Key::global(ItemKind::tuples, at), Key::global(ItemKind::tuples, end - 1), 64));
    if (items.empty()) return missing(Lba(at));
    for (const Item& item : items) {
      if (item.key.offset != at) return missing(Lba(at));
      take(at, FS_TRY(parse_tuples(item, store.interval())));
      if (at == end) break;
    }
  }
  return result;
}

void put_tuples(Transaction& transaction, BlockRange range, std::span<const Tuple> tuples,
                Interval interval) {
  const uint32_t per_block = tuples_per_block(interval);
  FS_ASSERT(tuples.size() == range.length_blocks * per_block);
  for (uint64_t done = 0; done < range.length_blocks; done += blocks_per_item(interval)) {
    const uint64_t blocks = std::min(blocks_per_item(interval), range.length_blocks - done);
    transaction.put(Key::global(ItemKind::tuples, range.start.value + done),
                    std::as_bytes(tuples.subspan(done * per_block, blocks * per_block)));
  }
}

size_t put_tuples_bytes(uint64_t length_blocks, Interval interval) {
  const uint64_t items = length_blocks / blocks_per_item(interval) + 1;
  return items * kPutOverheadBytes + length_blocks * tuples_per_block(interval) * sizeof(Tuple);
}

size_t erase_tuples_bytes(uint64_t length_blocks) {
  // Items are shorter where short runs were mapped one after the other.
  const uint64_t items = std::min(length_blocks, length_blocks / 4 + 16);
  return items * kEraseBytes + 2 * (kPutOverheadBytes + kMaxItemBytes);
}

Status TupleEditor::load(BlockRange range) {
  const uint32_t per_block = tuples_per_block(interval_);
  uint64_t at = range.start.value;
  while (at < range.end().value) {
    if (loaded_.contains(at)) {
      ++at;
      continue;
    }
    auto [first, tuples] = FS_TRY(find_item(store_, Lba(at)));
    const uint64_t end = first + tuples.size() / per_block;
    loaded_.insert(first, end);
    pieces_.emplace(first, tuples);
    original_.emplace(first, std::move(tuples));
    at = end;
  }
  return {};
}

Status TupleEditor::erase(BlockRange range) {
  FS_TRY(load(range));
  const uint32_t per_block = tuples_per_block(interval_);
  uint64_t at = range.start.value;
  const uint64_t end = range.end().value;
  while (at < end) {
    auto piece = pieces_.upper_bound(at);
    // A block whose tuples are gone already would be mapped twice.
    if (piece == pieces_.begin()) return missing(Lba(at));
    --piece;
    const uint64_t first = piece->first;
    const std::vector<Tuple> tuples = std::move(piece->second);
    const uint64_t piece_end = first + tuples.size() / per_block;
    pieces_.erase(piece);
    if (piece_end <= at) return missing(Lba(at));
    const uint64_t to = std::min(end, piece_end);
    const auto cut = [&](uint64_t block) {
      return tuples.begin() + static_cast<ptrdiff_t>((block - first) * per_block);
    };
    if (first < at) pieces_.emplace(first, std::vector<Tuple>(tuples.begin(), cut(at)));
    if (to < piece_end) pieces_.emplace(to, std::vector<Tuple>(cut(to), tuples.end()));
    at = to;
  }
  return {};
}

Status TupleEditor::set_app_tag(BlockRange range, uint16_t app_tag) {
  FS_ASSERT(app_tag != kEscapeAppTag);
  FS_TRY(load(range));
  const uint32_t per_block = tuples_per_block(interval_);
  uint64_t at = range.start.value;
  const uint64_t end = range.end().value;
  while (at < end) {
    auto piece = pieces_.upper_bound(at);
    if (piece == pieces_.begin()) return missing(Lba(at));
    --piece;
    const uint64_t piece_end = piece->first + piece->second.size() / per_block;
    if (piece_end <= at) return missing(Lba(at));
    const uint64_t to = std::min(end, piece_end);
    for (uint64_t i = (at - piece->first) * per_block; i < (to - piece->first) * per_block; ++i) {
      piece->second[i].app_tag = app_tag;
    }
    at = to;
  }
  return {};
}

Status TupleEditor::split_around(BlockRange range) {
  FS_TRY(load({range.start, 1}));
  FS_TRY(load({range.end() - 1, 1}));
  split_at(range.start.value);
  split_at(range.end().value);
  return {};
}

void TupleEditor::split_at(uint64_t lba) {
  auto piece = pieces_.lower_bound(lba);
  if (piece == pieces_.begin()) return;
  --piece;
  const uint32_t per_block = tuples_per_block(interval_);
  std::vector<Tuple>& tuples = piece->second;
  const uint64_t length = tuples.size() / per_block;
  if (piece->first + length <= lba) return;
  const auto cut = tuples.begin() + static_cast<ptrdiff_t>((lba - piece->first) * per_block);
  pieces_.emplace(lba, std::vector<Tuple>(cut, tuples.end()));
  tuples.erase(cut, tuples.end());
}

size_t TupleEditor::split_bytes(uint64_t piece_count, uint64_t length_blocks, Interval interval) {
  const size_t ends = 2 * (kPutOverheadBytes + kMaxItemBytes);
  const size_t inside = length_blocks * tuples_per_block(interval) * sizeof(Tuple);
  const uint64_t puts = 2 * piece_count + 2;
  return ends + puts * kPutOverheadBytes + std::min<size_t>(inside, puts * kMaxItemBytes);
}

size_t TupleEditor::edit_bytes(uint64_t length_blocks, Interval interval) {
  // In the worst case each block has an item of its own; both ends lie inside items that go on.
  const size_t block_bytes = kPutOverheadBytes + tuples_per_block(interval) * sizeof(Tuple);
  return length_blocks * block_bytes + 2 * (kPutOverheadBytes + kMaxItemBytes);
}

void TupleEditor::emit(Transaction& transaction) const {
  for (const auto& [lba, tuples] : original_) {
    if (!pieces_.contains(lba)) transaction.erase(Key::global(ItemKind::tuples, lba));
  }
  for (const auto& [lba, tuples] : pieces_) {
    const auto before = original_.find(lba);
    if (before != original_.end() && same_tuples(before->second, tuples)) continue;
    transaction.put(Key::global(ItemKind::tuples, lba), std::as_bytes(std::span(tuples)));
  }
}

}  // namespace stablefs
