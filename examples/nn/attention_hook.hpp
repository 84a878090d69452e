#ifndef DIFFUSION_EXAMPLES_NN_ATTENTION_HOOK_HPP
#define DIFFUSION_EXAMPLES_NN_ATTENTION_HOOK_HPP

#include <Eigen/Core>

#include <functional>
#include <span>

namespace nn {

/// Which of a network's attention probabilities a hook is shown. Plain data.
struct AttentionPlace {
  Eigen::Index sample = 0;       ///< of the call's batch
  int layer = 0;                 ///< attention layers in the order in which they are run, from 0
  int head = 0;                  ///< from 0
  Eigen::Index first_query = 0;  ///< large pictures are shown some queries at a time
  Eigen::Index queries = 0;
  Eigen::Index pixels = 0;  ///< keys; all queries too, for it is attention to oneself
};

/// Sees and may replace attention probabilities: [queries, pixels] in C order, each row the softmax
/// over the keys of one query. Called by the threads that work on the samples, for several samples
/// at once but never for one.
template <class Scalar>
using AttentionHook =
    std::function<void(const AttentionPlace& place, std::span<Scalar> probabilities)>;

/// How a hook follows one sample through the network. Null: nobody watches.
template <class Scalar>
struct AttentionProbe {
  const AttentionHook<Scalar>* hook = nullptr;
  Eigen::Index sample = 0;
  int layer = 0;
};

}  // namespace nn

#endif  // DIFFUSION_EXAMPLES_NN_ATTENTION_HOOK_HPP
