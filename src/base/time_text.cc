// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/time_text.h"

#include <ctime>

namespace stablefs {

std::string time_text(Timestamp time) {
  const time_t seconds = time.seconds;
  tm utc{};
  char text[32] = "";
  if (::gmtime_r(&seconds, &utc) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  }
  return text;
}

}  // namespace stablefs
