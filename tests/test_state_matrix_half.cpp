#include "state_matrix.hpp"

TEST_CASE("The reference's DDIM in every kind of state of half precision") {
  state_matrix::follow_every_kind<Eigen::half>();
}
