"""What has to survive a crash: verified logins, jobs and marks, in one SQLite file that helper and workers share."""
