"""What people use now, written for comparison; see README.md beside this file."""
