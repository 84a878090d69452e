# add_subdirectory of the tree: nothing but the library is built, and nothing is installed.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

make_project(add_subdirectory)
build_project(${EIGEN_DIR})
expect_plain_compile_commands()
run_program(${here}/bin/my_program)

run(${CMAKE_COMMAND} --install ${here}/build --config Debug --prefix ${here}/prefix)
file(GLOB_RECURSE installed ${here}/prefix/*)
expect_equal("installed by a project that installs nothing" "${installed}" "")
