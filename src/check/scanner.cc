// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/scanner.h"

#include <algorithm>
#include <optional>

#include "format/items.h"

namespace stablefs {
namespace {

constexpr size_t kBatchItems = 1000;

std::optional<Key> key_after(Key key) {
  if (++key.offset != 0) return key;
  if (++key.kind != 0) return key;
  if (++key.object != 0) return key;
  return std::nullopt;
}

std::optional<Key> key_before(Key key) {
  if (key == Key::minimum()) return std::nullopt;
  if (key.offset-- != 0) return key;
  if (key.kind-- != 0) return key;
  --key.object;
  return key;
}

}  // namespace

Scanner::Scanner(Store& store, std::vector<KeyRange> damaged)
    : store_(store), damaged_(std::move(damaged)) {
  std::sort(damaged_.begin(), damaged_.end(),
            [](const KeyRange& a, const KeyRange& b) { return a.low < b.low; });
}

bool Scanner::for_each(const Key& first, const Key& last, Reporter& reporter,
                       const std::function<void(const Item&)>& visit) {
  Key from = first;
  for (const KeyRange& range : damaged_) {
    if (range.high && *range.high <= from) continue;
    if (range.low > last) break;
    const auto sound_end = key_before(range.low);
    if (sound_end && *sound_end >= from && !scan_sound(from, *sound_end, reporter, visit)) {
      return false;
    }
    if (!range.high) return true;
    from = std::max(from, *range.high);
  }
  return from > last || scan_sound(from, last, reporter, visit);
}

bool Scanner::hides(const Key& first, const Key& last) const {
  return std::any_of(damaged_.begin(), damaged_.end(), [&](const KeyRange& range) {
    return range.low <= last && (!range.high || *range.high > first);
  });
}

bool Scanner::scan_sound(Key first, const Key& last, Reporter& reporter,
                         const std::function<void(const Item&)>& visit) {
  for (;;) {
    const auto items = store_.scan(first, last, kBatchItems);
    if (!items.ok()) {
      reporter.add(ProblemId::scan_failed, "items from " + key_to_text(first),
                   items.error().message());
      return false;
    }
    Key expected = first;  // lower bound of what may come next
    for (const Item& item : *items) {
      if (item.key < expected || item.key > last) {
        reporter.add(ProblemId::scan_order, "item " + key_to_text(item.key));
        return false;
      }
      visit(item);
      const auto next = key_after(item.key);
      if (!next) return true;
      expected = *next;
    }
    if (items->size() < kBatchItems || expected > last) return true;
    first = expected;
  }
}

}  // namespace stablefs
