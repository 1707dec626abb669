// SPDX-License-Identifier: GPL-2.0-or-later
// Items of the store in key order, in batches, around the damaged parts of the tree.
#pragma once

#include <functional>
#include <vector>

#include "check/device_pass.h"
#include "store/store.h"

namespace stablefs {

class Scanner {
 public:
  Scanner(Store& store, std::vector<KeyRange> damaged);

  // Calls `visit` for every item from `first` to `last` that can be reached. False, with the reason
  // reported, when the store failed in a part that looked sound.
  bool for_each(const Key& first, const Key& last, Reporter& reporter,
                const std::function<void(const Item&)>& visit);
  // Some key of [first, last] lies in a damaged part.
  bool hides(const Key& first, const Key& last) const;

 private:
  bool scan_sound(Key first, const Key& last, Reporter& reporter,
                  const std::function<void(const Item&)>& visit);

  Store& store_;
  std::vector<KeyRange> damaged_;  // by low key
};

}  // namespace stablefs
