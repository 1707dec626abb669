// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/direct_write.h"

#include <algorithm>

namespace stablefs {

void DirectParts::add_behind(const OrderedIo& io, OrderedIo& rest) {
  parts_.insert(find(io) + 1, Part{&rest});
}

bool DirectParts::landed(const OrderedIo& io) {
  const auto at = find(io);
  at->landed = true;
  return at - parts_.begin() == static_cast<ptrdiff_t>(turn_);
}

// Not among those that are gone: a new one may be where one of them was.
std::vector<DirectParts::Part>::iterator DirectParts::find(const OrderedIo& io) {
  const auto at = std::find_if(parts_.begin() + static_cast<ptrdiff_t>(turn_), parts_.end(),
                               [&io](const Part& part) { return part.io == &io; });
  FS_ASSERT(at != parts_.end());
  return at;
}

OrderedIo* DirectParts::ended(const Status& status) {
  FS_ASSERT(!over() && parts_[turn_].landed);
  if (!status.ok() && status_.ok()) status_ = status;
  ++turn_;
  return !over() && parts_[turn_].landed ? parts_[turn_].io : nullptr;
}

}  // namespace stablefs
