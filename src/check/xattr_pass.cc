// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/xattr_pass.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "format/acl.h"
#include "format/bytes.h"
#include "format/items.h"
#include "format/xattr.h"

namespace stablefs {

std::string XattrPass::where() const {
  return fmt::format("inode {}", ino_);
}

void XattrPass::visit(const Item& item, uint64_t ino, const DiskInode* inode) {
  ino_ = ino;
  inode_ = inode;
  const bool is_first = chunk_of_xattr(item.key.offset) == 0;
  if (is_first) {
    end();
    begin(item);
    return;
  }
  const uint64_t expected = std::min<uint64_t>(attribute_.left_bytes, kMaxValueBytes);
  const bool fits = attribute_.begun && item.key.offset == attribute_.next && expected != 0 &&
                    item.value.size() == expected;
  if (!fits) {
    if (!incomplete_) incomplete_at_ = item.key.offset;
    incomplete_ = true;
    attribute_.begun = false;
    return;
  }
  ++attribute_.next;
  attribute_.left_bytes -= expected;
  if (attribute_.is_acl) {
    attribute_.value.insert(attribute_.value.end(), item.value.begin(), item.value.end());
  }
}

void XattrPass::begin(const Item& item) {
  DiskXattr header;
  std::memcpy(&header, item.value.data(), sizeof header);
  attribute_ = Attribute();
  attribute_.begun = true;
  attribute_.first = item.key.offset;
  attribute_.next = item.key.offset + 1;
  attribute_.left_bytes =
      xattr_bytes(header.name_length, header.value_length_bytes) - item.value.size();
  attribute_.name = xattr_name(item.value);
  attribute_.is_acl = namespace_of_xattr(attribute_.name) == XattrNamespace::acl;
  if (attribute_.is_acl) {
    const auto skipped = static_cast<ptrdiff_t>(sizeof header + header.name_length);
    attribute_.value.assign(item.value.begin() + skipped, item.value.end());
  }
  check_key(item);
  check_type();
}

void XattrPass::check_key(const Item& item) {
  const uint64_t hash = hash_of_xattr(item.key.offset);
  if (hash != xattr_hash(dirent_hash(hash_seed_, attribute_.name))) {
    reporter_.add(ProblemId::xattr_hash, where(), item_to_text(item.key, item.value, {}));
  }
  if (hash != hash_) {
    hash_ = hash;
    names_.clear();
  }
  if (std::find(names_.begin(), names_.end(), attribute_.name) != names_.end()) {
    reporter_.add(ProblemId::xattr_duplicate, where(), item_to_text(item.key, item.value, {}));
  }
  names_.push_back(attribute_.name);
}

void XattrPass::check_type() {
  if (inode_ == nullptr) return;
  const uint32_t type = inode_->mode & S_IFMT;
  const auto space = namespace_of_xattr(attribute_.name);
  const bool fits = attribute_.name == kDefaultAclName  ? type == S_IFDIR
                    : attribute_.name == kAccessAclName ? type != S_IFLNK
                    : space == XattrNamespace::user     ? type == S_IFREG || type == S_IFDIR
                                                        : true;
  if (fits) return;
  reporter_.add(
      ProblemId::xattr_unexpected, where(),
      fmt::format("\"{}\" with mode {:o}", escape_text(attribute_.name), uint32_t{inode_->mode}));
}

void XattrPass::check_acl() {
  const auto acl = parse_acl(attribute_.value);
  if (!acl.ok()) {
    reporter_.add(ProblemId::acl_invalid, where(), attribute_.name);
    return;
  }
  if (attribute_.name != kAccessAclName || inode_ == nullptr) return;
  const uint32_t permissions = permissions_of_acl(*acl);
  if ((inode_->mode & 0777) == permissions) return;
  reporter_.add(ProblemId::acl_mode, where(),
                fmt::format("mode {:o}, list {:o}", uint32_t{inode_->mode}, permissions));
}

void XattrPass::end() {
  if (!attribute_.begun) return;
  attribute_.begun = false;
  if (attribute_.left_bytes != 0) {
    if (!incomplete_) incomplete_at_ = attribute_.first;
    incomplete_ = true;
  } else if (attribute_.is_acl) {
    check_acl();
  }
}

void XattrPass::finish(bool partly_hidden) {
  end();
  if (incomplete_ && !partly_hidden) {
    reporter_.add(ProblemId::xattr_incomplete, where(),
                  key_to_text(Key(Ino(ino_), ItemKind::xattr, incomplete_at_)));
  }
  incomplete_ = false;
  names_.clear();
  hash_ = 0;
}

}  // namespace stablefs
