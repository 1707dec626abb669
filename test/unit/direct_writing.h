// SPDX-License-Identifier: GPL-2.0-or-later
// A direct write and its answer.
#pragma once

#include <memory>
#include <optional>

#include "data_fixture.h"

namespace stablefs {

class DirectWriting {
 public:
  DirectWriting(FileData& file, uint64_t offset, std::span<const std::byte> bytes, Timestamp now)
      : answer_(std::make_shared<Answer>()) {
    begun_ = file.write_direct(offset, payload_of(bytes), now,
                               [answer = answer_](Result<uint64_t> written) {
                                 MutexLock lock(answer->mutex);
                                 FS_ASSERT(!answer->result);
                                 answer->result = std::move(written);
                                 answer->there.notify_all();
                               });
  }

  const Status& begun() const { return begun_; }
  bool answered() const {
    MutexLock lock(answer_->mutex);
    return answer_->result.has_value();
  }
  Result<uint64_t> wait() const {
    if (!begun_.ok()) return begun_.error();
    MutexLock lock(answer_->mutex);
    while (!answer_->result) answer_->there.wait(answer_->mutex);
    return *answer_->result;
  }

 private:
  struct Answer {
    Mutex mutex{LockRank::leaf, "answer"};
    CondVar there;
    std::optional<Result<uint64_t>> result;
  };
  const std::shared_ptr<Answer> answer_;
  Status begun_;
};

inline Result<uint64_t> write_directly(FileData& file, uint64_t offset,
                                       std::span<const std::byte> bytes, Timestamp now) {
  return DirectWriting(file, offset, bytes, now).wait();
}

}  // namespace stablefs
