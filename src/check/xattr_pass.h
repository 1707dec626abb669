// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes of one object after the other: their chunks come in key order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "check/reporter.h"
#include "stablefs/format.h"
#include "store/store.h"

namespace stablefs {

class XattrPass {
 public:
  XattrPass(Reporter& reporter, const uint8_t hash_seed[16])
      : reporter_(reporter), hash_seed_(hash_seed) {}

  // A valid item; `inode` of the object, when it is known.
  void visit(const Item& item, uint64_t ino, const DiskInode* inode);
  // No more items of this object. `partly_hidden`: some could not be read.
  void finish(bool partly_hidden);

 private:
  // The attribute whose chunks are coming.
  struct Attribute {
    bool begun = false;
    uint64_t first = 0;  // offset of chunk 0
    uint64_t next = 0;   // offset of the chunk to come
    uint64_t left_bytes = 0;
    std::string name;
    bool is_acl = false;
    std::vector<std::byte> value;  // of an access control list only
  };

  void begin(const Item& item);
  void check_key(const Item& item);
  void check_type();
  void check_acl();
  void end();
  std::string where() const;

  Reporter& reporter_;
  const uint8_t* const hash_seed_;
  uint64_t ino_ = 0;
  const DiskInode* inode_ = nullptr;
  Attribute attribute_;
  bool incomplete_ = false;  // some of this object: told at its end
  uint64_t incomplete_at_ = 0;
  uint64_t hash_ = 0;
  std::vector<std::string> names_;  // with this hash
};

}  // namespace stablefs
