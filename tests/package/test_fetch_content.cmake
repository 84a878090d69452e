# FetchContent of an archive. It holds what a user of the library needs, and no tests.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

set(archive ${here}/eigen-diffusion.tar.gz)
execute_process(COMMAND ${CMAKE_COMMAND} -E tar czf ${archive} CMakeLists.txt include LICENSE
                WORKING_DIRECTORY ${SOURCE} COMMAND_ERROR_IS_FATAL ANY)
file(SHA256 ${archive} sha256)

make_project(fetch_content)
build_project(${EIGEN_DIR} -D DIFFUSION_ARCHIVE=${archive} -D DIFFUSION_ARCHIVE_SHA256=${sha256})
expect_plain_compile_commands()
run_program(${here}/bin/my_program)
