-- Run once by PostgreSQL's image, on an empty volume: a database for each server.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
