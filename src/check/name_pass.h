// SPDX-License-Identifier: GPL-2.0-or-later
// The name space as a whole: link counts, types, parents, reachability, orphans. Works on the
// ledger; the store is asked only for names, to say where a problem is.
#pragma once

#include <string>
#include <unordered_map>

#include "check/ledger.h"
#include "check/reporter.h"
#include "store/store.h"

namespace stablefs {

class NamePass {
 public:
  NamePass(Store& store, Reporter& reporter, const Ledger& ledger)
      : store_(store), reporter_(reporter), ledger_(ledger) {}

  void run();
  // "inode 12 (/usr/bin)"; without the path when it cannot be found cheaply.
  std::string where(uint64_t ino);

 private:
  enum class Reach : uint8_t { unknown, walking, root, nowhere };

  void check_inode(uint64_t ino, const InodeRecord& record);
  void check_links(uint64_t ino, const InodeRecord& record);
  void check_directory(uint64_t ino, const InodeRecord& record);
  void check_reachable(uint64_t ino);
  void check_orphans();
  void check_root();
  const InodeRecord* find(uint64_t ino) const;
  std::string path_of(uint64_t ino);
  std::string name_in(uint64_t directory, uint64_t ino);

  Store& store_;
  Reporter& reporter_;
  const Ledger& ledger_;
  std::unordered_map<uint64_t, Reach> reach_;
  std::unordered_map<uint64_t, std::string> paths_;  // asked for already
};

}  // namespace stablefs
