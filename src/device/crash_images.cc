// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/crash_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace stablefs {
namespace {

constexpr const char* kVariantNames[] = {"nothing", "all", "prefix", "missing", "torn", "subset"};
constexpr const char* kFateNames[] = {"kept", "dropped", "torn"};  // by WriteFate
constexpr uint64_t kSubsetsMax = 1024;                             // of one moment
constexpr uint32_t kRoundsMax = 8;
constexpr size_t kPageHashesMax = 16384;  // each keeps its page in memory

uint64_t mixed(uint64_t value) {
  return Prng(value).next();
}

// How many of this variant there are when `losable_count` writes may be lost.
uint64_t variant_count(CrashVariant variant, uint64_t losable_count) {
  switch (variant) {
    case CrashVariant::nothing:
      return 1;
    case CrashVariant::all:
      return losable_count > 0 ? 1 : 0;
    case CrashVariant::prefix:
      return losable_count > 1 ? losable_count - 1 : 0;
    case CrashVariant::missing:
      return losable_count > 1 ? losable_count : 0;
    case CrashVariant::torn:
      return 2 * losable_count;
    case CrashVariant::subset:
      return losable_count > 1 ? std::min(8 * losable_count, kSubsetsMax) : 0;
  }
  return 0;
}

constexpr CrashVariant kVariants[] = {CrashVariant::nothing, CrashVariant::all,
                                      CrashVariant::prefix,  CrashVariant::missing,
                                      CrashVariant::torn,    CrashVariant::subset};

uint64_t candidates_at(uint64_t losable_count) {
  uint64_t count = 0;
  for (const CrashVariant variant : kVariants) count += variant_count(variant, losable_count);
  return count;
}

WriteFate subset_fate(uint64_t series, Prng& prng) {
  switch (series % 4) {
    case 0:
      return prng.chance(2) ? WriteFate::kept : WriteFate::dropped;
    case 1:
      return prng.chance(4) ? WriteFate::dropped : WriteFate::kept;
    case 2:
      return prng.chance(4) ? WriteFate::kept : WriteFate::dropped;
    default:
      return static_cast<WriteFate>(prng.below(3));
  }
}

WriteFate fate_of(const CrashStateId& id, uint64_t index, Prng& prng) {
  const auto kept_if = [](bool kept) { return kept ? WriteFate::kept : WriteFate::dropped; };
  switch (id.variant) {
    case CrashVariant::nothing:
      return WriteFate::dropped;
    case CrashVariant::all:
      return WriteFate::kept;
    case CrashVariant::prefix:
      return kept_if(index <= id.number);
    case CrashVariant::missing:
      return kept_if(index != id.number);
    case CrashVariant::torn:
      if (index == id.number / 2) return WriteFate::torn;
      return kept_if(index < id.number / 2 || id.number % 2 == 1);
    case CrashVariant::subset:
      return subset_fate(id.number, prng);
  }
  return WriteFate::kept;
}

template <class T>
void shuffle(std::vector<T>& values, Prng& prng) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[prng.below(i)]);
}

// 0 for zeros, so that it does not matter whether a block of zeros is populated.
uint64_t contents_hash(const MemoryImage::Page& page) {
  uint64_t hash = 0, any = 0;
  for (size_t i = 0; i < page.size(); i += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, page.data() + i, sizeof word);
    any |= word;
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 32;
  }
  return any == 0 ? 0 : hash | 1;
}

// Whether a crash just before this event may lose more than one after it.
bool makes_durable(const IoEvent& event) {
  const bool durable = event.op == DeviceOp::flush || (event.op == DeviceOp::write && event.fua);
  return event.kind == IoEventKind::complete && durable && !event.failed;
}

}  // namespace

std::string CrashStateId::text() const {
  const std::string kind = kVariantNames[static_cast<size_t>(variant)];
  if (variant == CrashVariant::nothing || variant == CrashVariant::all) {
    return fmt::format("{}.{}", event, kind);
  }
  return fmt::format("{}.{}.{}", event, kind, number);
}

Result<CrashStateId> CrashStateId::parse(std::string_view text) {
  const Error bad(ErrorCode::invalid_argument,
                  fmt::format("'{}' names no state (example: 1234.missing.3)", text));
  const auto number = [](std::string_view digits, uint64_t& value) {
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    return error == std::errc() && stop == end;
  };
  CrashStateId id;
  const size_t first = text.find('.');
  if (first == std::string_view::npos || !number(text.substr(0, first), id.event)) return bad;
  const std::string_view rest = text.substr(first + 1);
  const size_t second = std::min(rest.find('.'), rest.size());
  const auto name = std::ranges::find(kVariantNames, rest.substr(0, second));
  if (name == std::end(kVariantNames)) return bad;
  id.variant = kVariants[name - std::begin(kVariantNames)];
  if (second < rest.size() && !number(rest.substr(second + 1), id.number)) return bad;
  if (id.text() != text) return bad;
  return id;
}

std::string CrashState::describe() const {
  std::string out = fmt::format("crash after {} events of the log and {} marks", id.event, marks);
  if (marks > 0) out += fmt::format(" (the last: {})", last_mark);
  out += fmt::format("; of {} writes not known to be durable:\n", events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    const VolatileCache::Event& event = *events[i];
    out += fmt::format("{:>8} {} of blocks {}+{}{}\n", kFateNames[static_cast<size_t>(fates[i])],
                       to_string(event.op), event.range.start.value, event.range.length_blocks,
                       i < unflushed ? "" : ", not completed");
  }
  return out;
}

CrashImages::CrashImages(const IoLog& log, MemoryImage base, const CrashImageOptions& options)
    : log_(log), base_(std::move(base)), options_(options), replay_(base_) {
  find_moments();
  share_out(options.images);
  for (Moment& moment : moments_) moment.extremes_first = moment.share >= std::size(kVariants);
}

void CrashImages::find_moments() {
  IoReplay replay(base_);
  bool changed = false;
  const auto add = [&](size_t event) {
    const uint64_t candidates = candidates_at(replay.losable().size());
    if (changed) moments_.push_back({event, candidates});
    if (changed) candidates_ += candidates;
    changed = false;
  };
  for (size_t i = 0; i < log_.events.size(); ++i) {
    const IoEvent& event = log_.events[i];
    const bool marked = event.kind == IoEventKind::mark;
    if (makes_durable(event) || (marked && options_.by_mark)) add(i);
    if (event.kind == IoEventKind::base || (marked && !options_.by_mark)) continue;
    changed |= marked || event.op != DeviceOp::read;
    replay.step(event);
  }
  add(log_.events.size());
}

// As many for each moment as it has and as fit; what is left over one by one, evenly and seeded.
void CrashImages::share_out(uint64_t images) {
  const auto left_of = [](const Moment& moment) { return moment.candidates - moment.tried; };
  const auto total_at = [&](uint64_t level) {
    uint64_t total = 0;
    for (const Moment& moment : moments_) total += std::min(left_of(moment), level);
    return total;
  };
  images = std::min(images, total_at(UINT64_MAX));
  uint64_t level = 0, too_high = images + 1;  // total_at(level) fits
  while (too_high - level > 1) {
    const uint64_t middle = level + (too_high - level) / 2;
    (total_at(middle) <= images ? level : too_high) = middle;
  }
  std::vector<Moment*> richer;
  for (Moment& moment : moments_) {
    moment.share = std::min(left_of(moment), level);
    if (left_of(moment) > level) richer.push_back(&moment);
  }
  const uint64_t rest = richer.empty() ? 0 : images - total_at(level);
  Prng prng(options_.seed);
  for (uint64_t i = 0; i < std::min<uint64_t>(rest, richer.size()); ++i) {
    // One out of each of `rest` equal parts of the log.
    const size_t from = i * richer.size() / rest, to = (i + 1) * richer.size() / rest;
    richer[from + prng.below(to - from)]->share += 1;
  }
}

void CrashImages::touch(DeviceOp op, BlockRange range) {
  const auto add = [this](Lba lba) { touched_.push_back(lba.value); };
  if (op == DeviceOp::write) {
    for (uint64_t i = 0; i < range.length_blocks; ++i) add(range.start + i);
  } else if (op == DeviceOp::discard || op == DeviceOp::write_zeroes) {
    replay_.cache().durable().for_each_populated(range, add);
  }
}

void CrashImages::step_to(size_t event) {
  for (; position_ < event; ++position_) {
    const IoEvent& next = log_.events[position_];
    if (next.kind == IoEventKind::submit) touch(next.op, {next.lba, next.length_blocks});
    if (next.kind == IoEventKind::mark) {
      ++marks_;
      last_mark_ = next.text();
    }
    replay_.step(next);
  }
}

uint64_t CrashImages::block_hash(uint64_t lba, const MemoryImage::PageRef& page) {
  if (!page) return 0;
  if (page_hashes_.size() >= kPageHashesMax) page_hashes_.clear();
  const auto [it, is_unknown] = page_hashes_.try_emplace(page, 0);
  if (is_unknown) it->second = contents_hash(*page);
  return it->second == 0 ? 0 : mixed(it->second + mixed(lba));
}

void CrashImages::update_durable_hash() {
  for (const uint64_t lba : touched_) {
    uint64_t& known =
        durable_block_hashes_.try_emplace(lba, block_hash(lba, base_.page(Lba(lba)))).first->second;
    const uint64_t now = block_hash(lba, replay_.cache().durable().page(Lba(lba)));
    durable_hash_ += now - known;
    known = now;
  }
  // What is not durable yet will have to be looked at again.
  touched_.clear();
  for (const VolatileCache::Event* event : replay_.losable()) touch(event->op, event->range);
}

bool CrashImages::is_new(const CrashState& state) {
  uint64_t hash = durable_hash_;
  for (const auto& [lba, page] : state.image.changes()) {
    hash += block_hash(lba, page) - block_hash(lba, state.image.base().page(Lba(lba)));
  }
  if (options_.by_mark) hash += mixed(marks_);
  return seen_.insert(hash).second;
}

Prng CrashImages::prng_of(const CrashStateId& id) const {
  const uint64_t which = id.number * std::size(kVariants) + static_cast<uint64_t>(id.variant);
  return Prng(mixed(options_.seed) ^ mixed(id.event) ^ mixed(~which));
}

// The extremes first where several are wanted, then one of every kind in turn.
std::vector<CrashImages::Variant> CrashImages::variants_of(const Moment& moment,
                                                           uint64_t losable_count) const {
  Prng prng(mixed(options_.seed) ^ mixed(moment.event));
  std::vector<std::vector<Variant>> kinds;
  for (const CrashVariant kind : kVariants) {
    std::vector<Variant> numbers;
    for (uint64_t i = 0; i < variant_count(kind, losable_count); ++i) {
      numbers.emplace_back(kind, i);
    }
    shuffle(numbers, prng);
    kinds.push_back(std::move(numbers));
  }
  if (!moment.extremes_first) shuffle(kinds, prng);
  std::vector<Variant> all;
  for (bool any = true; any;) {
    any = false;
    for (std::vector<Variant>& numbers : kinds) {
      if (numbers.empty()) continue;
      all.push_back(numbers.back());
      numbers.pop_back();
      any = true;
    }
  }
  std::ranges::reverse(all);
  all.resize(all.size() - moment.tried);
  return all;
}

bool CrashImages::begin_next_moment() {
  while (next_moment_ < moments_.size()) {
    const Moment& moment = moments_[next_moment_++];
    wanted_ += moment.share;
    if (wanted_ == 0) continue;
    step_to(moment.event);
    update_durable_hash();
    variants_ = variants_of(moment, replay_.losable().size());
    return true;
  }
  return begin_next_round();
}

// Moments late in the log may have had nothing new to make up for those before: then all get
// another share.
bool CrashImages::begin_next_round() {
  if (wanted_ == 0 || ++round_ == kRoundsMax) return false;
  rewind();
  share_out(wanted_);
  wanted_ = 0;
  next_moment_ = 0;
  const auto has_share = [](const Moment& moment) { return moment.share > 0; };
  return std::ranges::any_of(moments_, has_share) && begin_next_moment();
}

void CrashImages::rewind() {
  replay_ = IoReplay(base_);
  position_ = 0;
  marks_ = 0;
  last_mark_.clear();
  durable_hash_ = 0;
  durable_block_hashes_.clear();
  touched_.clear();
}

std::optional<CrashState> CrashImages::next() {
  while (true) {
    if (wanted_ == 0) variants_.clear();
    if (variants_.empty()) {
      if (!begin_next_moment()) return std::nullopt;
      continue;
    }
    const auto [kind, number] = variants_.back();
    variants_.pop_back();
    ++moments_[next_moment_ - 1].tried;
    CrashState state = make_state({position_, kind, number});
    if (is_new(state)) {
      --wanted_;
      return state;
    }
    ++repeated_;
  }
}

CrashState CrashImages::make_state(const CrashStateId& id) const {
  Prng prng = prng_of(id);
  auto events = replay_.losable();
  std::vector<WriteFate> fates;
  for (uint64_t i = 0; i < events.size(); ++i) fates.push_back(fate_of(id, i, prng));
  ImageOverlay image = replay_.cache().crash_overlay(events, fates, prng);
  return {id,
          std::move(image),
          marks_,
          last_mark_,
          std::move(events),
          std::move(fates),
          replay_.cache().events().size()};
}

Result<CrashState> CrashImages::state(const CrashStateId& id) {
  const Error none(ErrorCode::invalid_argument, fmt::format("the log has no state {}", id.text()));
  if (id.event > log_.events.size()) return none;
  if (position_ > id.event) rewind();
  step_to(id.event);
  if (id.number >= variant_count(id.variant, replay_.losable().size())) return none;
  return make_state(id);
}

}  // namespace stablefs
