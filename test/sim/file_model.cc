// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/file_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/ids.h"

namespace stablefs::sim {
namespace {

constexpr int64_t kFromBefore = -1;

}  // namespace

FileModel::FileModel(std::string content) : size_(content.size()), size_floor_(content.size()) {
  content.resize(blocks_for_bytes(content.size()) * kBlockSize);
  for (uint64_t block = 0; block * kBlockSize < content.size(); ++block) {
    blocks_[block].push_back({content.substr(block * kBlockSize, kBlockSize), kFromBefore});
  }
}

std::vector<FileModel::Version>& FileModel::versions(uint64_t block) {
  std::vector<Version>& all = blocks_[block];
  if (all.empty()) all.push_back({Block(kBlockSize, '\0'), kFromBefore});
  return all;
}

void FileModel::change(uint64_t event, uint64_t offset, const std::string& bytes) {
  const uint64_t end = offset + bytes.size();
  for (uint64_t block = offset / kBlockSize; block * kBlockSize < end; ++block) {
    const uint64_t from = std::max(offset, block * kBlockSize);
    const uint64_t to = std::min(end, (block + 1) * kBlockSize);
    std::vector<Version>& all = versions(block);
    Block content = all.back().content;
    std::memcpy(content.data() + (from - block * kBlockSize), bytes.data() + (from - offset),
                to - from);
    all.push_back({std::move(content), static_cast<int64_t>(event)});
  }
}

void FileModel::write(uint64_t event, uint64_t offset, const std::string& bytes) {
  change(event, offset, bytes);
  const uint64_t end = offset + bytes.size();
  if (end <= size_) return;
  extensions_.push_back({static_cast<int64_t>(event), std::max(offset, size_), end});
  sizes_.insert(size_);
  size_ = end;
}

void FileModel::zero(uint64_t event, uint64_t offset, uint64_t length, bool keep_size) {
  const uint64_t end = offset + length;
  const uint64_t last = std::min(end, size_);
  if (offset < last) change(event, offset, std::string(last - offset, '\0'));
  if (!keep_size) grow(end);
}

void FileModel::grow(uint64_t size) {
  if (size <= size_) return;
  sizes_.insert(size_);
  size_ = size;
}

void FileModel::truncate(uint64_t size) {
  if (size > size_) {
    size_ = size_floor_ = size;
    sizes_.clear();
    return;
  }
  blocks_.erase(blocks_.lower_bound(blocks_for_bytes(size)), blocks_.end());
  const auto edge = blocks_.find(size / kBlockSize);
  if (edge != blocks_.end()) {
    for (Version& version : edge->second) {
      std::fill(version.content.begin() + static_cast<ptrdiff_t>(size % kBlockSize),
                version.content.end(), '\0');
    }
  }
  std::erase_if(extensions_, [size](const Extension& e) { return e.first_new_byte >= size; });
  for (Extension& extension : extensions_) extension.end = std::min(extension.end, size);
  size_ = size;
  size_floor_ = std::min(size_floor_, size);
  sizes_.erase(sizes_.upper_bound(size), sizes_.end());
}

void FileModel::sync() {
  for (auto& [block, all] : blocks_) all.erase(all.begin(), all.end() - 1);
  extensions_.clear();
  sizes_.clear();
  size_floor_ = size_;
}

// A size the file had since it was synced, or the end of a block on the way.
bool FileModel::possible_size(uint64_t size) const {
  if (size < size_floor_ || size > size_) return false;
  return size == size_floor_ || size == size_ || size % kBlockSize == 0 || sizes_.contains(size);
}

std::optional<std::string> FileModel::judge(const std::string& found, int64_t& last_visible) const {
  if (!possible_size(found.size())) {
    return fmt::format("has {} bytes; {} to {} are possible", found.size(), size_floor_, size_);
  }
  for (uint64_t block = 0; block * kBlockSize < found.size(); ++block) {
    if (auto wrong = judge_block(block, found, last_visible)) return wrong;
  }
  return std::nullopt;
}

std::optional<std::string> FileModel::judge_block(uint64_t block, const std::string& found,
                                                  int64_t& last_visible) const {
  const uint64_t start = block * kBlockSize;
  const uint64_t end = std::min<uint64_t>(found.size(), start + kBlockSize);
  // What the size covers has arrived: at least the write that made the file that long.
  int64_t required = kFromBefore;
  for (const Extension& extension : extensions_) {
    const bool covered = extension.first_new_byte < end && extension.end > start;
    if (covered) required = std::max(required, extension.event);
  }
  static const Version kHole{Block(kBlockSize, '\0'), kFromBefore};
  const auto entry = blocks_.find(block);
  const auto matches = [&](const Version& version) {
    return version.event >= required &&
           std::memcmp(version.content.data(), found.data() + start, end - start) == 0;
  };
  if (entry == blocks_.end()) {
    if (matches(kHole)) return std::nullopt;
    return explain(block, found, required);
  }
  for (const Version& version : entry->second) {
    if (!matches(version)) continue;
    last_visible = std::max(last_visible, version.event);
    return std::nullopt;
  }
  return explain(block, found, required);
}

std::string FileModel::explain(uint64_t block, const std::string& found, int64_t required) const {
  const uint64_t start = block * kBlockSize;
  const std::string bytes = found.substr(start, kBlockSize);
  std::string text =
      fmt::format("block {} of {} bytes is none of its versions", block, found.size());
  if (std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; })) text += "; all zero";
  const auto entry = blocks_.find(block);
  if (entry == blocks_.end()) return text + "; nothing was written there";
  for (const Version& version : entry->second) {
    const auto [a, b] = std::mismatch(bytes.begin(), bytes.end(), version.content.begin());
    const uint64_t differs = std::inner_product(bytes.begin(), bytes.end(), version.content.begin(),
                                                uint64_t{0}, std::plus<>(), std::not_equal_to<>());
    text += fmt::format("; event {}: ", version.event);
    text += differs == 0 ? fmt::format("equal, but event {} was required", required)
                         : fmt::format("{} bytes differ, first at {}", differs, a - bytes.begin());
  }
  return text;
}

}  // namespace stablefs::sim
