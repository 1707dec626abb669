// SPDX-License-Identifier: GPL-2.0-or-later
// Whether the lock is held is decided at run time, which clang's analysis cannot follow.
#include "data/sharing.h"

#include <utility>

#include "stablefs/format.h"

namespace stablefs {

Sharing::Sharing(Store& store) {
  const auto found =
      store.scan(Key::global(ItemKind::reference, 0), Key::global(ItemKind::reference, ~0ull), 1);
  any_ = !found.ok() || !found->empty();
}

SharingLock& SharingLock::operator=(SharingLock&& other) noexcept {
  if (this != &other) {
    release();
    sharing_ = std::exchange(other.sharing_, nullptr);
  }
  return *this;
}

void SharingLock::take(Sharing& sharing) FS_NO_THREAD_SAFETY_ANALYSIS {
  if (held()) return;
  sharing.mutex_.lock_same_rank();
  sharing_ = &sharing;
}

void SharingLock::release() FS_NO_THREAD_SAFETY_ANALYSIS {
  if (held()) std::exchange(sharing_, nullptr)->mutex_.unlock();
}

}  // namespace stablefs
