// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/name_pass.h"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "format/bytes.h"
#include "format/items.h"

namespace stablefs {
namespace {

constexpr size_t kPathsMax = 10'000;  // a path costs a scan of each directory on it
constexpr uint32_t kPathDepthMax = 64;
constexpr size_t kEntriesMax = 100'000;  // searched for a name in one directory
constexpr size_t kBatchItems = 1000;

}  // namespace

void NamePass::run() {
  std::vector<uint64_t> inos;
  inos.reserve(ledger_.inodes.size());
  for (const auto& [ino, record] : ledger_.inodes) inos.push_back(ino);
  std::sort(inos.begin(), inos.end());
  check_root();
  for (uint64_t ino : inos) check_inode(ino, *find(ino));
  check_orphans();
  const uint64_t next = store_.new_ino().value;  // of a read-only store: nobody else asks
  if (next <= ledger_.highest_ino) {
    reporter_.add(ProblemId::next_ino, "superblock",
                  fmt::format("next is {}, but {} is in use", next, ledger_.highest_ino));
  }
}

const InodeRecord* NamePass::find(uint64_t ino) const {
  const auto found = ledger_.inodes.find(ino);
  return found == ledger_.inodes.end() ? nullptr : &found->second;
}

void NamePass::check_root() {
  const InodeRecord* root = find(kRootIno.value);
  if (root == nullptr || !root->present || (root->valid && root->type != DT_DIR)) {
    reporter_.add(ProblemId::root_missing, fmt::format("inode {}", kRootIno.value));
  }
}

void NamePass::check_inode(uint64_t ino, const InodeRecord& record) {
  if (!record.present) {
    if (record.entries != 0) {
      reporter_.add(
          ProblemId::dirent_dangling, where(record.first_parent),
          fmt::format("inode {}, \"{}\"", ino, escape_text(name_in(record.first_parent, ino))));
    }
    return;
  }
  if (!record.valid) return;
  if (record.entries != 0 && (record.type_conflict || record.entry_type != record.type)) {
    reporter_.add(ProblemId::dirent_type, where(ino),
                  fmt::format("entry has {}, inode {}", record.entry_type, record.type));
  }
  check_links(ino, record);
  if (record.type == DT_DIR) check_directory(ino, record);
}

void NamePass::check_links(uint64_t ino, const InodeRecord& record) {
  const auto orphan = ledger_.orphans.find(ino);
  const bool doomed = orphan != ledger_.orphans.end() &&
                      orphan->second.intent == static_cast<uint8_t>(OrphanIntent::remove);
  if (record.link_count != 0 && doomed) {
    reporter_.add(ProblemId::orphan_linked, where(ino),
                  fmt::format("link count {}", record.link_count));
  }
  if (record.link_count == 0 && !doomed) reporter_.add(ProblemId::orphan_missing, where(ino));
  if (record.link_count != 0 && record.entries == 0 && ino != kRootIno.value) {
    reporter_.add(ProblemId::inode_unreferenced, where(ino),
                  fmt::format("link count {}", record.link_count));
    return;
  }
  uint64_t expected = record.entries;
  if (record.type == DT_DIR) {
    // A removed directory has neither its entry nor its own ".".
    expected = record.entries != 0 || ino == kRootIno.value ? 2 + record.subdirectories
                                                            : record.subdirectories;
  }
  if (record.link_count != expected) {
    reporter_.add(ProblemId::link_count, where(ino),
                  fmt::format("{} instead of {}", record.link_count, expected));
  }
}

void NamePass::check_directory(uint64_t ino, const InodeRecord& record) {
  const bool root = ino == kRootIno.value;
  if (record.entries > (root ? 0u : 1u)) {
    reporter_.add(ProblemId::directory_linked_twice, where(ino),
                  fmt::format("{} entries", record.entries));
  }
  if (!root && record.entries == 0) return;
  const uint64_t parent = root ? kRootIno.value : record.first_parent;
  if (record.parent != parent) {
    reporter_.add(ProblemId::directory_parent, where(ino),
                  fmt::format("{} instead of {}", record.parent, parent));
  }
  if (!root) check_reachable(ino);
}

// A directory whose chain of parents ends in one without entry is not reported: that one was.
void NamePass::check_reachable(uint64_t ino) {
  std::vector<uint64_t> walked;
  Reach verdict = Reach::unknown;
  for (uint64_t at = ino; verdict == Reach::unknown;) {
    if (at == kRootIno.value) {
      verdict = Reach::root;
      break;
    }
    Reach& reach = reach_[at];
    if (reach == Reach::walking) {
      reporter_.add(ProblemId::directory_unreachable, where(at), "it is inside itself");
      verdict = Reach::nowhere;
    } else if (reach != Reach::unknown) {
      verdict = reach;
    } else {
      reach = Reach::walking;
      walked.push_back(at);
      const InodeRecord* record = find(at);
      if (record == nullptr || record->entries == 0)
        verdict = Reach::nowhere;
      else
        at = record->first_parent;
    }
  }
  for (uint64_t at : walked) reach_[at] = verdict;
}

void NamePass::check_orphans() {
  for (const auto& [ino, orphan] : ledger_.orphans) {
    const InodeRecord* record = find(ino);
    if (record == nullptr || !record->present) {
      reporter_.add(ProblemId::orphan_without_inode, fmt::format("inode {}", ino));
      continue;
    }
    if (orphan.intent != static_cast<uint8_t>(OrphanIntent::truncate) || !record->valid) continue;
    if (record->type != DT_REG || orphan.start_block < blocks_for_bytes(record->size_bytes)) {
      reporter_.add(
          ProblemId::orphan_truncate, where(ino),
          fmt::format("from block {}, size {}", uint64_t{orphan.start_block}, record->size_bytes));
    }
  }
}

std::string NamePass::where(uint64_t ino) {
  const std::string number = fmt::format("inode {}", ino);
  const auto known = paths_.find(ino);
  if (known == paths_.end() && paths_.size() >= kPathsMax) return number;
  const std::string path = known != paths_.end() ? known->second : path_of(ino);
  if (known == paths_.end()) paths_.emplace(ino, path);
  return path.empty() ? number : number + " (" + escape_text(path) + ")";
}

std::string NamePass::path_of(uint64_t ino) {
  std::string path;
  for (uint32_t depth = 0; ino != kRootIno.value; ++depth) {
    const InodeRecord* record = find(ino);
    if (record == nullptr || record->entries == 0 || depth == kPathDepthMax) return "";
    const std::string name = name_in(record->first_parent, ino);
    if (name.empty()) return "";
    path = "/" + name + path;
    ino = record->first_parent;
  }
  return path.empty() ? "/" : path;
}

std::string NamePass::name_in(uint64_t directory, uint64_t ino) {
  Key first(Ino(directory), ItemKind::dirent, 0);
  const Key last(Ino(directory), ItemKind::dirent, ~0ull);
  for (size_t searched = 0; searched < kEntriesMax; searched += kBatchItems) {
    const auto items = store_.scan(first, last, kBatchItems);
    if (!items.ok()) return "";
    for (const Item& item : *items) {
      if (!validate_item(item.key, item.value, store_.interval()).ok()) continue;
      DiskDirent dirent;
      std::memcpy(&dirent, item.value.data(), sizeof dirent);
      if (dirent.ino != ino) continue;
      return {reinterpret_cast<const char*>(item.value.data()) + sizeof dirent, dirent.name_length};
    }
    if (items->size() < kBatchItems) return "";
    first = items->back().key;
    ++first.offset;
  }
  return "";
}

}  // namespace stablefs
