#ifndef DIFFUSION_TENSOR_EIGEN_DEVICE_HPP
#define DIFFUSION_TENSOR_EIGEN_DEVICE_HPP

#include <atomic>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <mutex>

/// Eigen's devices, seen as ours. Nothing here names ThreadPoolDevice, which exists only where the
/// user has defined EIGEN_USE_THREADS: it is told by its members.
namespace Eigen {
struct DefaultDevice;
}

namespace diffusion::detail {

/// Eigen::ThreadPoolDevice, or what has its members.
template <class D>
concept ThreadPool = requires(const D& device, void (*task)()) {
  { device.numThreads() } -> std::convertible_to<int>;
  { device.currentThreadId() } -> std::convertible_to<int>;
  device.getPool()->Schedule(task);
};

/// Work on [0, n) that several threads share: each takes the next range until none is left. The
/// object outlives all helpers: its end waits for them, also when the work throws.
template <class F>
class SharedWork {
 public:
  SharedWork(std::size_t n, std::size_t range, const F& f) : n_(n), range_(range), f_(f) {}
  SharedWork(const SharedWork&) = delete;
  SharedWork& operator=(const SharedWork&) = delete;
  ~SharedWork() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return helpers_ == 0; });
  }

  /// Has `count` threads of a pool help. Their task is one pointer, so std::function and the pool's
  /// queue, an array, hold it without an allocation.
  template <class Pool>
  void call_helpers(Pool& pool, std::size_t count) {
    helpers_ = count;
    for (std::size_t i = 0; i < count; ++i)
      pool.Schedule([this] {
        run();
        leave();
      });
  }

  void run() {
    for (std::size_t begin = take(); begin < n_; begin = take())
      f_(begin, n_ - begin < range_ ? n_ : begin + range_);
  }

 private:
  std::size_t take() { return next_.fetch_add(range_, std::memory_order_relaxed); }
  void leave() {
    const std::lock_guard lock(mutex_);  // held while it notifies: then the object may go
    --helpers_;
    idle_.notify_one();
  }

  const std::size_t n_;
  const std::size_t range_;
  const F& f_;
  std::atomic<std::size_t> next_{0};
  std::size_t helpers_ = 0;
  std::mutex mutex_;
  std::condition_variable idle_;
};

/// Calls f on ranges of [0, n) of at least `grain`, on the threads of the pool and the calling one.
/// A thread of the pool that calls does all by itself: if it waited for others that wait as well,
/// nobody would work.
template <ThreadPool D, class F>
void parallel_for(const D& device, std::size_t n, std::size_t grain, const F& f) {
  constexpr std::size_t ranges_per_thread = 4;  // so that a late thread delays nobody
  const auto up = [](std::size_t a, std::size_t b) { return a / b + (a % b != 0 ? 1 : 0); };
  const auto threads = static_cast<std::size_t>(device.numThreads() > 1 ? device.numThreads() : 1);
  const std::size_t even = up(n, ranges_per_thread * threads);
  const std::size_t range = even < grain ? grain : even;
  const std::size_t workers = n <= range ? 1 : (up(n, range) < threads ? up(n, range) : threads);
  if (workers == 1 || device.currentThreadId() >= 0) return f(std::size_t{0}, n);
  SharedWork<F> work(n, range, f);
  work.call_helpers(*device.getPool(), workers - 1);
  work.run();
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_TENSOR_EIGEN_DEVICE_HPP
