// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/volatile_cache.h"

#include <cstring>
#include <memory>

#include "base/assert.h"

namespace stablefs {
namespace {

constexpr size_t kSectorBytes = 512;  // the unit devices write atomically
constexpr size_t kSectorsPerBlock = kBlockSize / kSectorBytes;

using PageRef = MemoryImage::PageRef;
using Page = MemoryImage::Page;

PageRef noise(Prng& prng) {
  auto page = std::make_shared<Page>();
  for (size_t i = 0; i < kBlockSize; i += sizeof(uint64_t)) {
    const uint64_t word = prng.next();
    std::memcpy(page->data() + i, &word, sizeof word);
  }
  return page;
}

// Which sectors of a torn write arrived: a prefix, a suffix, or any.
class Tear {
 public:
  Tear(size_t sectors, Prng& prng)
      : prng_(prng), shape_(prng.below(3)), cut_(prng.below(sectors + 1)) {}

  bool arrived(size_t sector) {
    if (shape_ == 0) return sector < cut_;
    if (shape_ == 1) return sector >= cut_;
    return prng_.chance(2);
  }

 private:
  Prng& prng_;
  uint64_t shape_;
  size_t cut_;
};

PageRef mix(const PageRef& before, const PageRef& after, size_t first_sector, Tear& tear) {
  auto page = before ? std::make_shared<Page>(*before) : std::make_shared<Page>();
  const Page zeros{};
  const Page& source = after ? *after : zeros;
  for (size_t i = 0; i < kSectorsPerBlock; ++i) {
    if (!tear.arrived(first_sector + i)) continue;
    std::memcpy(page->data() + i * kSectorBytes, source.data() + i * kSectorBytes, kSectorBytes);
  }
  return page;
}

WriteFate choose_fate(CrashPolicy policy, Prng& prng) {
  switch (policy) {
    case CrashPolicy::keep_all:
      return WriteFate::kept;
    case CrashPolicy::drop_all:
      return WriteFate::dropped;
    case CrashPolicy::subset:
      return static_cast<WriteFate>(prng.below(2));
    case CrashPolicy::torn:
      return static_cast<WriteFate>(prng.below(3));
  }
  return WriteFate::kept;
}

}  // namespace

VolatileCache::VolatileCache(MemoryImage durable)
    : durable_(std::move(durable)), current_(durable_) {}

void VolatileCache::write(Lba lba, std::vector<PageRef> pages, bool fua) {
  Event event;
  event.range = {lba, pages.size()};
  for (PageRef& page : pages) event.contents.emplace_back(lba, std::move(page)), ++lba;
  add(std::move(event), fua);
}

void VolatileCache::zero(DeviceOp op, BlockRange range, bool fua) {
  Event event;
  event.op = op;
  event.range = range;
  event.zeroes = true;
  add(std::move(event), fua);
}

void VolatileCache::scramble(BlockRange range, Prng& prng) {
  Event event;
  event.op = DeviceOp::discard;
  event.range = range;
  current_.for_each_populated(range, [&](Lba lba) {
    const uint64_t choice = prng.below(3);
    if (choice == 0) event.contents.emplace_back(lba, current_.page(lba));
    if (choice == 1) event.contents.emplace_back(lba, nullptr);
    if (choice == 2) event.contents.emplace_back(lba, noise(prng));
  });
  add(std::move(event), false);
}

bool VolatileCache::superseded(Lba lba, uint64_t sequence) const {
  const auto it = fua_sequence_.find(lba.value);
  return it != fua_sequence_.end() && it->second > sequence;
}

template <class Image>
void VolatileCache::apply(const Event& event, Image& image, bool honour_fua) const {
  const bool can_be_superseded = honour_fua && !fua_sequence_.empty();
  if (!event.zeroes) {
    for (const auto& [lba, page] : event.contents) {
      if (!can_be_superseded || !superseded(lba, event.sequence)) image.set_page(lba, page);
    }
    return;
  }
  if (!can_be_superseded) {
    image.zero(event.range);
    return;
  }
  std::vector<Lba> zeroed;
  image.for_each_populated(event.range, [&](Lba lba) {
    if (!superseded(lba, event.sequence)) zeroed.push_back(lba);
  });
  for (Lba lba : zeroed) image.set_page(lba, nullptr);
}

void VolatileCache::add(Event event, bool fua) {
  event.sequence = ++last_sequence_;
  apply(event, current_, false);
  if (!fua) {
    events_.push_back(std::move(event));
    return;
  }
  apply(event, durable_, false);
  if (events_.empty()) return;
  for (uint64_t i = 0; i < event.range.length_blocks; ++i) {
    fua_sequence_[event.range.start.value + i] = event.sequence;
  }
}

void VolatileCache::apply_torn(const Event& event, ImageOverlay& image, Prng& prng) const {
  std::vector<std::pair<Lba, PageRef>> changes = event.contents;
  if (event.zeroes) {
    image.for_each_populated(event.range,
                             [&changes](Lba lba) { changes.emplace_back(lba, nullptr); });
  }
  Tear tear(changes.size() * kSectorsPerBlock, prng);
  for (size_t i = 0; i < changes.size(); ++i) {
    const auto& [lba, page] = changes[i];
    const PageRef mixed = mix(image.page(lba), page, i * kSectorsPerBlock, tear);
    if (!superseded(lba, event.sequence)) image.set_page(lba, mixed);
  }
}

void VolatileCache::flush(uint64_t up_to_sequence) {
  while (!events_.empty() && events_.front().sequence <= up_to_sequence) {
    apply(events_.front(), durable_, true);
    events_.pop_front();
  }
  if (events_.empty()) fua_sequence_.clear();
}

ImageOverlay VolatileCache::crash_overlay(std::span<const Event* const> events,
                                          std::span<const WriteFate> fates, Prng& tear) const {
  FS_ASSERT(fates.size() == events.size());
  ImageOverlay image(durable_);
  for (size_t i = 0; i < fates.size(); ++i) {
    if (fates[i] == WriteFate::kept) apply(*events[i], image, true);
    if (fates[i] == WriteFate::torn) apply_torn(*events[i], image, tear);
  }
  return image;
}

MemoryImage VolatileCache::crash_image(std::span<const WriteFate> fates, Prng& tear) const {
  std::vector<const Event*> events;
  for (const Event& event : events_) events.push_back(&event);
  return crash_overlay(events, fates, tear).flatten();
}

MemoryImage VolatileCache::crash_image(CrashPolicy policy, Prng& prng) const {
  std::vector<WriteFate> fates(events_.size());
  for (WriteFate& fate : fates) fate = choose_fate(policy, prng);
  return crash_image(fates, prng);
}

}  // namespace stablefs
