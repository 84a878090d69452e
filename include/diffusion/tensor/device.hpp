#ifndef DIFFUSION_TENSOR_DEVICE_HPP
#define DIFFUSION_TENSOR_DEVICE_HPP

#include <diffusion/tensor/eigen_device.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace diffusion {

/// A device of your own: anything that can split [0, n) into ranges of at least `grain` elements
/// and call f(begin, end) for each, possibly in parallel, and returns when all are done. How it
/// splits never changes a result. Shared by several runs at once if it may be called by several
/// threads.
template <class D>
concept Device = requires(D& device, std::size_t n, void (*f)(std::size_t, std::size_t)) {
  device.parallel_for(n, n, f);
};

namespace detail {
/// What a DeviceRef refers to: a device of your own, or one of Eigen's.
template <class D>
concept AnyDevice =
    Device<D> || std::same_as<std::remove_const_t<D>, Eigen::DefaultDevice> || ThreadPool<D>;
}  // namespace detail

/// A reference to a device, cheap to copy; the default runs everything on the calling thread.
/// Two pointers and one indirect call a stage, so that options need no template parameter.
///
/// Eigen's devices are taken as they are. DefaultDevice is the calling thread. ThreadPoolDevice
/// (with EIGEN_USE_THREADS, which this library never defines) is the calling thread and
/// numThreads() - 1 of the pool, or the calling one alone where it belongs to the pool, so runs may
/// be started from within; it allocates nothing. Immutable; as safe to share as the device is.
class DeviceRef {
 public:
  DeviceRef() = default;
  // clang-format off
  template <class D>
    requires(!std::same_as<std::remove_const_t<D>, DeviceRef> && detail::AnyDevice<D>)
  DeviceRef(D& device)  // NOLINT(google-explicit-constructor)
      : device_(const_cast<void*>(static_cast<const void*>(std::addressof(device)))),
        run_([](void* d, std::size_t n, std::size_t grain, const Body& body) {
          if constexpr (Device<D>)
            static_cast<D*>(d)->parallel_for(n, grain, body);
          else if constexpr (detail::ThreadPool<D>)
            detail::parallel_for(*static_cast<D*>(d), n, grain, body);
          else
            body(0, n);
        }) {}
  // clang-format on

  /// Calls f(begin, end) on ranges that cover [0, n). Without a device: f(0, n).
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, const F& f) const {
    if (!device_) return f(std::size_t{0}, n);
    const Body body{&f, [](const void* context, std::size_t begin, std::size_t end) {
                      (*static_cast<const F*>(context))(begin, end);
                    }};
    run_(device_, n, grain, body);
  }

 private:
  struct Body {
    const void* context;
    void (*call)(const void*, std::size_t, std::size_t);
    void operator()(std::size_t begin, std::size_t end) const { call(context, begin, end); }
  };
  void* device_ = nullptr;
  void (*run_)(void*, std::size_t, std::size_t, const Body&) = nullptr;
};

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_DEVICE_HPP
