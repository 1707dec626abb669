// SPDX-License-Identifier: GPL-2.0-or-later
// Elastic leader/follower workers: one thread at a time has the lead, which is the right to
// receive; the thread that received serves and answers, so a request never changes threads.
//
// Handing the lead on costs a wake-up on another core, several times the work of a short request.
// So the leader keeps it while it serves what is expected to be short, and a watching thread takes
// it away when that takes longer than kPatienceNs (the request waits for the device, say). For some
// time after that, and for requests known to be long, the lead is handed on before serving.
//
// Receiving is one at a time on purpose: whatever receive() does besides reading (taking a place in
// line for a range of a file) happens in the order in which the kernel sent the requests.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>

#include "base/clock.h"
#include "base/sync.h"

namespace stablefs {

// What one thread does; made and used by that thread only.
class RequestWorker {
 public:
  enum class Received : uint8_t {
    short_request,  // serve() it; likely to be over before another thread had woken up
    long_request,   // serve() it while others receive
    exclusive,      // serve() it when everything received before is served; nobody receives then
    nothing,        // try again
    ended,          // there will be no more requests
  };
  // A received request on its way to another thread.
  class SetAside {
   public:
    virtual ~SetAside() = default;
  };

  virtual ~RequestWorker() = default;
  virtual Received receive() = 0;
  virtual void serve() = 0;
  // What was received may wait, for the device or for requests received before it. Such requests
  // never take the last threads, so that there is always one for those that cannot wait.
  virtual bool may_wait() const { return false; }
  // Of requests that may wait: gives it away, and takes what another worker has given away.
  virtual std::unique_ptr<SetAside> set_aside() { return nullptr; }
  virtual void take(std::unique_ptr<SetAside>) {}
};

struct WorkerPoolOptions {
  uint32_t threads_max = 64;
  uint32_t reserved = 2;      // of them for requests that do not wait
  uint32_t waiting_max = 6;   // threads beyond that end when they have nothing to do
  uint32_t parallel_max = 0;  // short requests served at a time under load; 0: half the processors
};

class WorkerPool {
 public:
  static constexpr uint64_t kPatienceNs = 100'000;

  WorkerPool(const WorkerPoolOptions& options,
             std::function<std::unique_ptr<RequestWorker>()> make_worker);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void start() FS_EXCLUDES(mutex_);
  // Returns when requests have ended and every thread is gone.
  void join() FS_EXCLUDES(mutex_);
  uint32_t threads() FS_EXCLUDES(mutex_);
  size_t set_aside() FS_EXCLUDES(mutex_);

 private:
  struct Member {
    Thread thread;
    bool finished = false;
    uint64_t began_ns = 0;  // serving the current request
  };

  void run(Member& member) FS_EXCLUDES(mutex_);
  bool lead(Member& member) FS_EXCLUDES(mutex_);
  // One thread without the lead sees to it that a slow leader loses it.
  void watch() FS_REQUIRES(mutex_);
  // After receive(). False when there is nothing to serve. The member may have lost the lead.
  bool begin(Member& member, RequestWorker& worker, RequestWorker::Received received,
             uint64_t asked_ns) FS_EXCLUDES(mutex_);
  // Gives a thread that has served the next request set aside.
  bool begin_set_aside(Member& member, RequestWorker& worker) FS_EXCLUDES(mutex_);
  void begin_short(Member& member, bool waited) FS_REQUIRES(mutex_);
  void served(Member& member, bool short_request) FS_EXCLUDES(mutex_);
  void hand_on() FS_REQUIRES(mutex_);
  void wake_watcher() FS_REQUIRES(mutex_);
  void add_thread() FS_REQUIRES(mutex_);

  const WorkerPoolOptions options_;
  const uint32_t parallel_max_;
  const std::function<std::unique_ptr<RequestWorker>()> make_worker_;
  SystemClock clock_;

  Mutex mutex_{LockRank::session, "workers"};
  CondVar may_lead_;
  CondVar watcher_;
  CondVar nobody_serves_;
  CondVar all_gone_;
  std::list<Member> members_ FS_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<RequestWorker::SetAside>> set_aside_ FS_GUARDED_BY(mutex_);
  uint32_t threads_ FS_GUARDED_BY(mutex_) = 0;
  uint32_t waiting_ FS_GUARDED_BY(mutex_) = 0;
  uint32_t serving_ FS_GUARDED_BY(mutex_) = 0;
  uint64_t begun_ FS_GUARDED_BY(mutex_) = 0;  // requests since the start
  Member* leader_ FS_GUARDED_BY(mutex_) = nullptr;
  bool leader_serves_ FS_GUARDED_BY(mutex_) = false;
  bool watched_ FS_GUARDED_BY(mutex_) = false;
  bool watcher_asleep_ FS_GUARDED_BY(mutex_) = false;
  uint32_t hand_on_next_ FS_GUARDED_BY(mutex_) = 0;  // so many more requests before keeping again
  uint32_t without_waiting_ FS_GUARDED_BY(mutex_) =
      0;  // requests that were there already, in a row
  bool ended_ FS_GUARDED_BY(mutex_) = false;
};

}  // namespace stablefs
