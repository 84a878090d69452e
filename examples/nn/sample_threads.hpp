#ifndef DIFFUSION_EXAMPLES_NN_SAMPLE_THREADS_HPP
#define DIFFUSION_EXAMPLES_NN_SAMPLE_THREADS_HPP

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace nn {

/// Threads that share out the samples of a batch, each with a workspace of its own that is kept for
/// the next batch.
template <class Workspace>
class SampleThreads {
 public:
  SampleThreads() : workspaces_(1) {}

  /// @throws std::invalid_argument if `threads` is not from 1 to 1024
  void set_count(int threads) {
    constexpr int most = 1024;
    if (threads < 1 || threads > most)
      throw std::invalid_argument("threads is " + std::to_string(threads) + ", must be from 1 to " +
                                  std::to_string(most));
    pool_ = threads > 1 ? std::make_unique<Eigen::ThreadPool>(threads - 1) : nullptr;
    workspaces_.resize(static_cast<std::size_t>(threads));
  }
  int count() const { return static_cast<int>(workspaces_.size()); }

  /// Calls sample(i, workspace) for every i below `count`; passes on what one of them throws.
  template <class Sample>
  void for_each(Eigen::Index count, const Sample& sample) {
    std::atomic<Eigen::Index> next{0};
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto work = [&](std::size_t worker) {
      try {
        for (Eigen::Index i = next++; i < count; i = next++) sample(i, workspaces_[worker]);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        error = std::current_exception();
      }
    };
    const auto most = static_cast<Eigen::Index>(workspaces_.size());
    const auto helpers =
        static_cast<std::size_t>(std::max<Eigen::Index>(0, std::min(count, most) - 1));
    Eigen::Barrier barrier(static_cast<unsigned>(helpers));
    for (std::size_t worker = 1; worker <= helpers; ++worker)
      pool_->Schedule([&work, &barrier, worker] {
        work(worker);
        barrier.Notify();
      });
    work(0);
    barrier.Wait();
    if (error) std::rethrow_exception(error);
  }

 private:
  std::unique_ptr<Eigen::ThreadPool> pool_;
  std::vector<Workspace> workspaces_;
};

}  // namespace nn

#endif
