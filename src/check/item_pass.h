// SPDX-License-Identifier: GPL-2.0-or-later
// Every item on its own and with the others of its object, which come together in key order;
// what concerns several objects goes to the ledger.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "check/ledger.h"
#include "check/scanner.h"
#include "check/xattr_pass.h"

namespace stablefs {

class ItemPass {
 public:
  ItemPass(Store& store, const BlockSet& nodes, Reporter& reporter, Ledger& ledger);

  // False when not every item could be read.
  bool run(Scanner& scanner);

 private:
  // The object whose items are coming.
  struct Object {
    uint64_t ino = 0;
    bool has_inode = false;
    bool valid = false;  // `inode` may be looked at
    bool reported_without_inode = false;
    bool partly_hidden = false;  // some of its items lie below a damaged node
    DiskInode inode;
    uint64_t mapped_blocks = 0;
    uint64_t end_block = 0;  // end of the last extent
    uint64_t target_bytes = 0;
    bool target_broken = false;
    uint64_t name_hash = 0;
    std::vector<std::string> names;  // of entries with this hash
  };

  void visit(const Item& item);
  void finish_object();
  void visit_inode(const Item& item);
  void visit_dirent(const Item& item);
  void visit_inline_data(const Item& item);
  void visit_extent(const Item& item);
  void visit_orphan(const Item& item);
  void visit_tuples(const Item& item);
  void visit_reference(const Item& item);
  void visit_damage(const Item& item);
  bool expect_type(const Item& item, uint32_t type);
  void check_name(const Item& item, const std::string& name);
  void check_end_of_file(uint64_t first_block, uint64_t length_blocks);
  void claim_blocks(const DiskExtent& extent);
  void settle_damage(uint64_t first_block, const DiskExtent& extent);
  void report_unmapped_damage();
  void check_tuple_tags(std::span<const std::byte> tuples, Lba lba);
  bool in_data_area(BlockRange range) const;
  std::string where() const;

  const Scanner* scanner_ = nullptr;
  Store& store_;
  const DiskSuperblock& superblock_;
  const BlockSet& nodes_;
  Reporter& reporter_;
  Ledger& ledger_;
  const uint64_t data_start_;
  const uint64_t data_end_;
  Object object_;
  XattrPass xattrs_;
};

}  // namespace stablefs
