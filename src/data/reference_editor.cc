// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/reference_editor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>

#include "format/items.h"
#include "stablefs/format.h"

namespace stablefs {
namespace {

constexpr size_t kScanItems = 64;
constexpr size_t kKeyBytes = 17;
constexpr size_t kPutBytes = 1 + kKeyBytes + 2 + sizeof(DiskReference);

struct Found {
  uint64_t first;
  uint64_t end;
  uint32_t count;
};

Key reference_key(uint64_t lba) {
  return Key::global(ItemKind::reference, lba);
}

Result<Found> parse(const Item& item, Interval interval) {
  if (const Status valid = validate_item(item.key, item.value, interval); !valid.ok()) {
    return Error(ErrorCode::extent_invalid, valid.error().message());
  }
  DiskReference disk;
  std::memcpy(&disk, item.value.data(), sizeof disk);
  const uint64_t first = item.key.offset;
  return Found{first, first + disk.length_blocks, disk.count};
}

// The item that contains `lba`.
Result<std::optional<Found>> find_at(Store& store, uint64_t lba) {
  const auto item = FS_TRY(store.floor(reference_key(lba), reference_key(0)));
  if (!item) return std::optional<Found>();
  const Found found = FS_TRY(parse(*item, store.interval()));
  return found.end > lba ? std::optional(found) : std::nullopt;
}

}  // namespace

Result<bool> any_shared(Store& store, BlockRange range) {
  const uint64_t last = range.end().value - 1;
  const auto item = FS_TRY(store.floor(reference_key(last), reference_key(0)));
  if (!item) return false;
  return FS_TRY(parse(*item, store.interval())).end > range.start.value;
}

Result<uint64_t> count_unshared(Store& store, BlockRange range) {
  if (FS_TRY(find_at(store, range.start.value))) return uint64_t{0};
  const auto items =
      FS_TRY(store.scan(reference_key(range.start.value), reference_key(range.end().value - 1), 1));
  return items.empty() ? range.length_blocks : items.front().key.offset - range.start.value;
}

Result<uint64_t> count_reference_items(Store& store, BlockRange range, uint64_t limit) {
  const uint64_t first = FS_TRY(find_at(store, range.start.value)) ? 1 : 0;
  if (range.length_blocks == 1 || first >= limit) return first;
  const auto items = FS_TRY(store.scan(reference_key(range.start.value + 1),
                                       reference_key(range.end().value - 1), limit - first));
  return first + items.size();
}

Status ReferenceEditor::load(BlockRange range) {
  uint64_t at = range.start.value;
  const uint64_t end = range.end().value;
  const auto add = [this](const Found& found) {
    original_.try_emplace(found.first, Shared{found.end, found.count});
    shared_.try_emplace(found.first, Shared{found.end, found.count});
    loaded_.insert(found.first, found.end);
  };
  while (at < end) {
    if (loaded_.contains(at)) {
      at = loaded_.end_of(at);
      continue;
    }
    if (const auto found = FS_TRY(find_at(store_, at))) {
      add(*found);
      continue;
    }
    // From here on nothing is loaded, up to what is, or to the next item.
    const uint64_t to = std::min(end, loaded_.lowest_from(at).value_or(end));
    const auto items = FS_TRY(store_.scan(reference_key(at), reference_key(to - 1), kScanItems));
    for (const Item& item : items) {
      const Found found = FS_TRY(parse(item, store_.interval()));
      if (found.first < at) {
        return Error(ErrorCode::extent_invalid,
                     fmt::format("reference items overlap at block {}", at));
      }
      add(found);
      loaded_.insert(at, found.end);
      at = found.end;
    }
    if (items.size() == kScanItems) continue;
    if (at < to) loaded_.insert(at, to);
    at = std::max(at, to);
  }
  return {};
}

void ReferenceEditor::cut_at(uint64_t lba) {
  auto at = shared_.lower_bound(lba);
  if (at == shared_.begin()) return;
  --at;
  if (at->second.end <= lba) return;
  shared_.emplace(lba, Shared{at->second.end, at->second.count});
  at->second.end = lba;
}

Status ReferenceEditor::itemise(BlockRange range) {
  FS_TRY(load(range));
  const uint64_t end = range.end().value;
  cut_at(range.start.value);
  cut_at(end);
  for (uint64_t at = range.start.value; at < end;) {
    auto next = shared_.lower_bound(at);
    if (next == shared_.end() || next->first != at) {
      const uint64_t to = next == shared_.end() ? end : std::min(end, next->first);
      next = shared_.emplace(at, Shared{to, 1}).first;
    }
    at = next->second.end;
  }
  return {};
}

Result<std::vector<ReferenceEditor::Piece>> ReferenceEditor::change_owners(BlockRange range,
                                                                           int difference) {
  FS_TRY(itemise(range));
  std::vector<Piece> pieces;
  for (auto at = shared_.find(range.start.value);
       at != shared_.end() && at->first < range.end().value;) {
    const auto [end, count] = at->second;
    const int64_t owners = int64_t{count} + difference;
    if (owners > std::numeric_limits<uint32_t>::max()) {
      return Error(ErrorCode::extent_invalid,
                   fmt::format("block {} has too many owners", at->first));
    }
    at->second.count = static_cast<uint32_t>(owners);
    pieces.push_back({{Lba(at->first), end - at->first}, at->second.count});
    at = owners > 1 ? std::next(at) : shared_.erase(at);
  }
  return pieces;
}

Result<std::vector<ReferenceEditor::Piece>> ReferenceEditor::share(BlockRange range) {
  return change_owners(range, 1);
}

Result<std::vector<ReferenceEditor::Piece>> ReferenceEditor::release(BlockRange range) {
  return change_owners(range, -1);
}

void ReferenceEditor::emit(Transaction& transaction) const {
  for (const auto& [lba, shared] : original_) {
    if (!shared_.contains(lba)) transaction.erase(reference_key(lba));
  }
  for (const auto& [lba, shared] : shared_) {
    const auto before = original_.find(lba);
    if (before != original_.end() && before->second == shared) continue;
    DiskReference disk;
    disk.length_blocks = static_cast<uint32_t>(shared.end - lba);
    disk.count = shared.count;
    transaction.put_struct(reference_key(lba), disk);
  }
}

size_t ReferenceEditor::edit_bytes(uint64_t item_count) {
  // Each put anew, with the gaps between them; at both ends something may go on.
  return (2 * item_count + 3) * kPutBytes;
}

}  // namespace stablefs
