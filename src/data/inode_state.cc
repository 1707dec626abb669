// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/inode_state.h"

namespace stablefs {

DiskInode to_disk(const InodeAttributes& attributes) {
  DiskInode item{};
  item.mode = attributes.mode;
  item.uid = attributes.uid;
  item.gid = attributes.gid;
  item.link_count = attributes.link_count;
  item.size_bytes = attributes.disk_size_bytes;
  item.block_count = attributes.block_count;
  item.access_time = to_disk(attributes.access_time);
  item.modify_time = to_disk(attributes.modify_time);
  item.change_time = to_disk(attributes.change_time);
  item.birth_time = to_disk(attributes.birth_time);
  item.device = attributes.device;
  item.generation = attributes.generation;
  item.parent = attributes.parent.value;
  item.flags = attributes.flags;
  item.app_tag = attributes.app_tag;
  return item;
}

InodeAttributes from_disk(const DiskInode& item) {
  InodeAttributes attributes;
  attributes.mode = item.mode;
  attributes.uid = item.uid;
  attributes.gid = item.gid;
  attributes.link_count = item.link_count;
  attributes.size_bytes = item.size_bytes;
  attributes.disk_size_bytes = item.size_bytes;
  attributes.block_count = item.block_count;
  attributes.access_time = from_disk(item.access_time);
  attributes.modify_time = from_disk(item.modify_time);
  attributes.change_time = from_disk(item.change_time);
  attributes.birth_time = from_disk(item.birth_time);
  attributes.device = item.device;
  attributes.generation = item.generation;
  attributes.parent = Ino(item.parent);
  attributes.flags = item.flags;
  attributes.app_tag = item.app_tag;
  return attributes;
}

}  // namespace stablefs
